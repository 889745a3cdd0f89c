# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Extra specs in a definition: they come, they go, and nothing else has changed."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from typing import Any

import libvirt
import pytest
from hypothesis import HealthCheck, assume, given, settings, strategies as st

from ansible_collections.kvmfleet.compute.plugins.module_utils._domain import definition as _definition, edit as _edit, flavor as _flavor
from ansible_collections.kvmfleet.compute.plugins.module_utils._rules.errors import KvmfleetError
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.planning import extra_specs

NAMES = ["virt_install", "virt_manager_uefi", "terraform", "cockpit", "vagrant", "nova", "ignition", "foreign_metadata", "pinned_numa", "hotplug"]
LIMITED = """<domain type='qemu'>
  <name>limited</name>
  <memory unit='GiB'>1</memory>
  <memtune><hard_limit unit='GiB'>9</hard_limit><swap_hard_limit unit='GiB'>20</swap_hard_limit></memtune>
  <vcpu>2</vcpu>
  <cputune><shares>512</shares><period>50000</period><quota>20000</quota><global_period>100000</global_period></cputune>
  <os><type arch='x86_64' machine='pc-q35-7.2'>hvm</type></os>
  <devices>
    <disk type='file' device='disk'>
      <driver name='qemu' type='qcow2'/><source file='/i/a.qcow2'/><target dev='vda' bus='virtio'/>
      <iotune>
        <read_bytes_sec>1000</read_bytes_sec><read_iops_sec>10</read_iops_sec><read_bytes_sec_max>2000</read_bytes_sec_max><size_iops_sec>512</size_iops_sec>
        <read_bytes_sec_max_length>3</read_bytes_sec_max_length>
      </iotune>
    </disk>
    <disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='/i/b.img'/><target dev='vdb' bus='virtio'/></disk>
    <disk type='file' device='cdrom'><target dev='sda' bus='sata'/><readonly/></disk>
    <interface type='bridge'>
      <mac address='52:54:00:00:00:01'/><source bridge='br0'/>
      <bandwidth><inbound average='100' peak='200' burst='50'/><outbound average='7'/></bandwidth>
    </interface>
    <interface type='user'><mac address='52:54:00:00:00:02'/></interface>
  </devices>
</domain>"""
LIMITS = st.integers(1000, 200000).map(str)
SPECS = st.fixed_dictionaries(
    {},
    optional={
        "hw:cpu_sockets": st.sampled_from(("1", "2", "4")),
        "hw:cpu_cores": st.sampled_from(("1", "2", "4")),
        "hw:cpu_max_threads": st.just("1"),
        "hw:numa_nodes": st.sampled_from(("1", "2", "4")),
        "hw:mem_page_size": st.sampled_from(("large", "2048", "2MB", "small", "any")),
        "quota:cpu_shares": LIMITS,
        "quota:cpu_period": LIMITS,
        "quota:cpu_quota": st.just("-1") | LIMITS,
        "quota:memory_limit": st.integers(2**15, 2**16).map(str),
        "quota:disk_read_bytes_sec": LIMITS,
        "quota:disk_write_bytes_sec": LIMITS,
        "quota:disk_total_iops_sec": LIMITS,
        "quota:vif_inbound_average": LIMITS,
        "quota:vif_outbound_average": LIMITS,
        "quota:vif_outbound_peak": LIMITS,
    },
).filter(lambda specs: "quota:vif_outbound_peak" not in specs or "quota:vif_outbound_average" in specs)
FLAVORS = st.tuples(st.integers(1, 8).map(lambda vcpus: vcpus * 4), st.integers(1, 2**10).map(lambda ram: ram * 16), SPECS)
QUIET = settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.filter_too_much])

Flavor = tuple[int, int, dict[str, str]]


def canonical(text: str) -> str:
    return ET.canonicalize(text, strip_text=True)


def edited(text: str, *flavors: Flavor) -> str:
    for vcpus, ram, specs in flavors:
        root = _definition.parse(text)
        tuning = extra_specs.tuning("flavor", {"vcpus": vcpus, "ram": ram, "extra_specs": specs})
        _flavor.apply_flavor(root, vcpus, ram, tuning)
        text = _edit.to_string(root)
    return text


def tried(text: str, *flavors: Flavor) -> str:
    """As edited; an example with a flavor that the definition cannot be given counts for nothing."""
    try:
        return edited(text, *flavors)
    except KvmfleetError:
        assume(False)
        raise


def values(text: str, path: str) -> list[Any]:
    return [element.text or dict(element.attrib) for element in _definition.parse(text).findall(path)]


def without_flavor(text: str) -> str:
    """The definition without what a flavor may set."""
    root = ET.fromstring(text)  # noqa: S314 - a fixture, or written by libvirt
    for place, pattern in {
        "cpu": "topology|numa",
        "cputune": "shares|period|quota|vcpupin",
        "memtune": "hard_limit",
        "memoryBacking": "hugepages",
        "metadata": r"\{https://kvmfleet.*",
        "devices/disk": "iotune",
        "devices/interface": "bandwidth",
        ".": "memory|currentMemory|vcpu|vcpus",
    }.items():
        for parent in root.findall(place):
            for child in list(parent):
                if re.fullmatch(pattern, child.tag):
                    parent.remove(child)
    for empty in [child for child in root if not len(child) and not child.attrib and not (child.text or "").strip()]:
        root.remove(empty)
    return canonical(ET.tostring(root, encoding="unicode"))


def text_of(definitions: dict[str, str], name: str) -> str:
    if name == "limited":
        return LIMITED.replace("'GiB'>9<", "'GiB'>90<").replace("'GiB'>20<", "'GiB'>200<")
    return definitions[name].replace("<cpu/>", "")  # libvirt writes none that says nothing


@pytest.mark.parametrize("name", [*NAMES, "limited"])
@given(a=FLAVORS, b=FLAVORS)
@QUIET
def test_flavor_a_then_b_then_a_is_flavor_a(definitions: dict[str, str], name: str, a: Flavor, b: Flavor) -> None:
    if name == "pinned_numa":  # what is bound is lost with the vCPU
        a, b = (4, *a[1:]), (8, *b[1:])
    settled = tried(text_of(definitions, name), (64, 2**15, {}))
    assert canonical(tried(settled, a, b, a)) == canonical(tried(settled, a))


@pytest.mark.parametrize("name", [*NAMES, "limited"])
@given(a=FLAVORS, b=FLAVORS)
@QUIET
def test_nothing_is_left_of_a_flavor_once_another_one_is_there(definitions: dict[str, str], name: str, a: Flavor, b: Flavor) -> None:
    if name == "pinned_numa":
        a, b = (4, *a[1:]), (8, *b[1:])
    text = text_of(definitions, name)
    plain = (*a[:2], {})
    try:
        expected = edited(text, plain)
    except KvmfleetError:
        expected = None
    settled = tried(text, (64, 2**15, {}))
    assert canonical(tried(settled, b, plain)) == canonical(edited(settled, plain))
    assert expected is None or "tuning" not in expected


@pytest.mark.parametrize("name", [*NAMES, "limited"])
@given(flavor=FLAVORS)
@QUIET
def test_what_the_flavor_does_not_say_is_untouched(definitions: dict[str, str], name: str, flavor: Flavor) -> None:
    text = text_of(definitions, name)
    assert without_flavor(tried(text, flavor)) == without_flavor(text)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "specs",
    [
        {"hw:cpu_cores": "2", "hw:cpu_max_threads": "1", "quota:cpu_shares": "2000", "quota:cpu_period": "100000", "quota:cpu_quota": "50000"},
        {"hw:numa_nodes": "1", "hw:mem_page_size": "2MB", "quota:memory_limit": "16000"},
        {"hw:mem_page_size": "large", "quota:disk_read_bytes_sec": "1000000", "quota:disk_total_iops_sec": "500"},
        {"quota:vif_inbound_average": "1000", "quota:vif_inbound_peak": "2000", "quota:vif_outbound_average": "10", "quota:cpu_quota": "-1"},
    ],
)
def test_libvirt_takes_it_and_the_next_flavor_takes_it_back(qemu: libvirt.virConnect, definitions: dict[str, str], name: str, specs: dict[str, str]) -> None:
    def defined(text: str) -> str:
        return qemu.defineXMLFlags(text, libvirt.VIR_DOMAIN_DEFINE_VALIDATE).XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)

    text = definitions[name].replace("host-passthrough", "maximum").replace("host-model", "maximum")
    plain = defined(edited(defined(defined(text)), (8, 8192, {})))
    tuned = defined(edited(plain, (8, 8192, specs)))
    assert canonical(tuned) != canonical(plain)
    assert without_flavor(tuned) == without_flavor(plain)
    assert canonical(edited(tuned, (8, 8192, specs))) == canonical(tuned)
    assert canonical(defined(edited(tuned, (8, 8192, {})))) == canonical(plain)


def test_two_cells_that_a_flavor_asked_for_on_libvirt(qemu: libvirt.virConnect, definitions: dict[str, str]) -> None:
    specs = {"hw:numa_nodes": "2", "hw:numa_cpus.0": "0-2", "hw:numa_cpus.1": "3", "hw:numa_mem.0": "1024", "hw:numa_mem.1": "512"}
    found = qemu.defineXML(edited(definitions["virt_manager_uefi"].replace("host-passthrough", "maximum"), (4, 1536, specs))).XMLDesc()
    assert [(cell["cpus"], cell["memory"]) for cell in values(found, "cpu/numa/cell")] == [("0-2", "1048576"), ("3", "524288")]


class TestLimits:
    def test_by_hand_stays_where_no_flavor_sets_it(self) -> None:
        text = edited(LIMITED, (4, 2048, {"quota:cpu_quota": "30000"}))
        assert (values(text, "cputune/shares"), values(text, "cputune/quota")) == (["512"], ["30000"])
        assert values(edited(text, (4, 2048, {})), "cputune/quota") == ["20000"]

    def test_by_hand_after_the_flavor_stays(self) -> None:
        text = edited(LIMITED, (4, 2048, {"quota:cpu_shares": "2000"})).replace("<shares>2000<", "<shares>3000<")
        plain = edited(text, (4, 2048, {}))
        assert values(plain, "cputune/shares") == ["3000"]
        assert "kvmfleet" not in plain
        again = edited(text, (4, 2048, {"quota:cpu_shares": "2000"}))
        assert values(edited(again, (4, 2048, {})), "cputune/shares") == ["3000"]

    def test_of_disks_go_together_and_leave_media_alone(self) -> None:
        text = edited(LIMITED, (2, 1024, {"quota:disk_total_bytes_sec": "5000"}))
        first, second = ({child.tag: child.text for child in tune} for tune in _definition.parse(text).findall("devices/disk/iotune"))
        assert first == {"total_bytes_sec": "5000", "read_iops_sec": "10", "size_iops_sec": "512"}
        assert second == {"total_bytes_sec": "5000"}
        assert canonical(edited(text, (2, 1024, {}))) == canonical(LIMITED)

    def test_of_interfaces_go_together_in_each_direction(self) -> None:
        text = edited(LIMITED, (2, 1024, {"quota:vif_inbound_average": "300"}))
        assert values(text, "devices/interface/bandwidth/inbound") == [{"average": "300"}]
        assert values(text, "devices/interface/bandwidth/outbound") == [{"average": "7"}]
        assert canonical(edited(text, (2, 1024, {}))) == canonical(LIMITED)

    def test_a_device_that_is_gone_is_forgotten(self) -> None:
        root = _definition.parse(edited(LIMITED, (2, 1024, {"quota:disk_total_bytes_sec": "5000"})))
        disks = root.find("devices")
        disks.remove(disks.findall("disk")[1])
        assert "vdb" not in edited(_edit.to_string(root), (2, 1024, {}))

    def test_the_flavor_may_raise_the_limit_of_memory_and_nobody_else(self) -> None:
        assert values(edited(LIMITED, (2, 9 * 1024, {})), "memtune/hard_limit") == ["9"]
        with pytest.raises(KvmfleetError) as caught:
            edited(LIMITED, (2, 10 * 1024, {}))
        assert caught.value.code == "unsupported_memtune"
        raised = edited(LIMITED, (2, 10 * 1024, {"quota:memory_limit": "12288"}))
        assert values(raised, "memtune/hard_limit") == [str(12 * 1024**2)]
        assert values(edited(raised, (2, 1024, {})), "memtune/hard_limit") == ["9"]
        with pytest.raises(KvmfleetError) as caught:
            edited(LIMITED, (2, 1024, {"quota:memory_limit": str(21 * 1024)}))
        assert (caught.value.code, caught.value.details) == ("unsupported_memtune", {"need": 21 * 1024, "have": 20 * 1024})

    @pytest.mark.parametrize("name", ["../devices", "cputune/../devices", "", "os/type", "bandwidth/inbound/@floor"])
    def test_metadata_that_names_another_place_is_ignored(self, name: str) -> None:
        forged = (
            f"<metadata><k:instance xmlns:k='{_definition.METADATA_NAMESPACE}'><k:tuning><k:setting name='{name}' was='x'/></k:tuning></k:instance></metadata>"
        )
        assert canonical(edited(LIMITED.replace("<memory ", f"{forged}<memory ", 1), (2, 1024, {}))) == canonical(LIMITED)


class TestHugePages:
    OWN = LIMITED.replace("<vcpu>", "<memoryBacking><hugepages>{}</hugepages></memoryBacking><vcpu>")

    @pytest.mark.parametrize(("size", "shown"), [("large", []), ("2MB", [{"size": "2048", "unit": "KiB"}]), ("1048576", [{"size": "1048576", "unit": "KiB"}])])
    def test_they_come_and_go(self, size: str, shown: list[dict[str, str]]) -> None:
        text = edited(LIMITED, (2, 1024, {"hw:mem_page_size": size}))
        assert len(values(text, "memoryBacking/hugepages")) == 1
        assert values(text, "memoryBacking/hugepages/page") == shown
        assert canonical(edited(text, (2, 1024, {"hw:mem_page_size": "small"}))) == canonical(LIMITED)

    @pytest.mark.parametrize(
        ("own", "size", "fits"),
        [
            ("", "large", True),
            ("<page size='2' unit='MiB'/>", "large", True),
            ("<page size='2048'/>", "2MB", True),
            ("", "2MB", False),
            ("<page size='1' unit='GiB'/>", "2MB", False),
            ("<page size='2048' nodeset='0'/>", "2MB", False),
        ],
    )
    def test_those_of_the_definition_stay(self, own: str, size: str, fits: bool) -> None:
        text = self.OWN.format(own)
        if fits:
            assert canonical(edited(text, (2, 1024, {"hw:mem_page_size": size}))) == canonical(text)
            return
        with pytest.raises(KvmfleetError) as caught:
            edited(text, (2, 1024, {"hw:mem_page_size": size}))
        assert caught.value.code == "unsupported_hugepages"

    def test_memory_fills_whole_pages_in_each_cell(self) -> None:
        edited(LIMITED, (2, 3072, {"hw:mem_page_size": "1GB"}))
        with pytest.raises(KvmfleetError) as caught:
            edited(LIMITED, (2, 3072, {"hw:mem_page_size": "1GB", "hw:numa_nodes": "2"}))
        assert (caught.value.code, caught.value.details) == ("unsupported_hugepages", {"need": 1024**2, "have": 1536 * 1024})


class TestCells:
    def test_made_by_a_flavor_they_are_made_anew_and_removed(self) -> None:
        two = edited(LIMITED, (4, 2048, {"hw:numa_nodes": "2"}))
        four = edited(two, (4, 2048, {"hw:numa_nodes": "4"}))
        assert [cell["cpus"] for cell in values(two, "cpu/numa/cell")] == ["0-1", "2-3"]
        assert [(cell["id"], cell["cpus"], cell["memory"]) for cell in values(four, "cpu/numa/cell")] == [(str(n), str(n), "524288") for n in range(4)]
        assert _definition.parse(edited(four, (4, 2048, {}))).find("cpu") is None

    def test_of_the_definition_are_spread_by_the_flavor_but_not_counted(self, definitions: dict[str, str]) -> None:
        cells = "<cell id='0' cpus='0-1' memory='2' unit='GiB'/><cell id='1' cpus='2-3' memory='2' unit='GiB'/>"
        text = definitions["pinned_numa"].replace("<cell id='0' cpus='0-3' memory='4194304' unit='KiB'/>", cells)
        uneven = {"hw:numa_nodes": "2", "hw:numa_cpus.0": "0,2,4", "hw:numa_cpus.1": "1,3,5", "hw:numa_mem.0": "1024", "hw:numa_mem.1": "5120"}
        spread = edited(text, (6, 6144, uneven))
        assert [(cell["cpus"], cell["memory"]) for cell in values(spread, "cpu/numa/cell")] == [("0,2,4", "1048576"), ("1,3,5", "5242880")]
        back = edited(spread, (8, 8192, {}))
        assert canonical(back) == canonical(edited(text, (8, 8192, {})))
        for nodes in ("1", "4"):
            with pytest.raises(KvmfleetError) as caught:
                edited(text, (8, 8192, {"hw:numa_nodes": nodes}))
            assert (caught.value.code, caught.value.details) == ("unsupported_numa", {"need": int(nodes), "have": 2})

    def test_a_cell_that_is_bound_does_not_go(self) -> None:
        four = edited(LIMITED, (4, 2048, {"hw:numa_nodes": "4"})).replace("<os>", "<numatune><memnode cellid='3' mode='strict' nodeset='0'/></numatune><os>")
        edited(four, (8, 4096, {"hw:numa_nodes": "4"}))
        with pytest.raises(KvmfleetError) as caught:
            edited(four, (4, 2048, {"hw:numa_nodes": "2"}))
        assert (caught.value.code, caught.value.details) == ("unsupported_numa", {"need": 4, "have": 2})


def test_a_topology_that_the_flavor_set_gives_way_to_the_guest_s_own(definitions: dict[str, str]) -> None:
    text = definitions["virt_manager_uefi"]
    wanted = edited(text, (8, 4096, {"hw:cpu_sockets": "1", "hw:cpu_cores": "8"}))
    assert values(wanted, "cpu/topology") == [{"sockets": "1", "dies": "1", "cores": "8", "threads": "1"}]
    assert canonical(edited(wanted, (8, 4096, {}))) == canonical(edited(text, (8, 4096, {})))
    assert values(edited(LIMITED, (8, 1024, {"hw:cpu_sockets": "2", "hw:cpu_max_cores": "2"})), "cpu/topology") == [
        {"sockets": "2", "cores": "2", "threads": "2"}
    ]


def test_offline_vcpus_do_not_disturb_a_topology(definitions: dict[str, str]) -> None:
    root = _definition.parse(edited(definitions["hotplug"], (2, 2048, {"hw:cpu_sockets": "1"})))
    assert (root.find("vcpu").text, root.find("cpu/topology").attrib) == ("2", {"sockets": "1", "dies": "1", "cores": "2", "threads": "1"})


def test_extra_specs_are_recorded_with_the_flavor(definitions: dict[str, str]) -> None:
    root = _definition.parse(definitions["foreign_metadata"])
    have = _definition.flavor_in_force(root)
    specs = {"quota:cpu_shares": "7", "capabilities:a": "<in> 'b' & \"c\""}
    _flavor.set_kvmfleet_metadata(root, "m1", None, "kvm1", "first", extra_specs=specs)
    again = _definition.parse(_edit.to_string(root))
    assert _definition.flavor_in_force(again) == _definition.FlavorInForce("m1", have.vcpus, have.ram, specs)
    _flavor.set_kvmfleet_metadata(again, "m2", None, "kvm1", "first")
    assert _definition.flavor_in_force(again).extra_specs == {}
    _flavor.apply_flavor(again, have.vcpus + 1, have.ram)
    assert _definition.flavor_in_force(again).name is None
