# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

import libvirt
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from ansible_collections.kvmfleet.compute.plugins.module_utils._domain import definition as _definition, edit as _edit, flavor as _flavor
from ansible_collections.kvmfleet.compute.plugins.module_utils._rules.errors import KvmfleetError

FLEXIBLE = ["virt_install", "virt_manager_uefi", "terraform", "cockpit", "vagrant", "nova", "ignition", "foreign_metadata"]
FLAVORS = st.tuples(st.integers(1, 64), st.integers(1, 2**18))


def canonical(text: str) -> str:
    return ET.canonicalize(text, strip_text=True)


def edited(text: str, *flavors: tuple[int, int]) -> str:
    root = _definition.parse(text)
    for vcpus, ram in flavors:
        _flavor.apply_flavor(root, vcpus, ram)
        root = _definition.parse(_edit.to_string(root))
    return _edit.to_string(root)


def without_flavor(text: str) -> str:
    """The definition without what a flavor and our own metadata may change."""
    root = ET.fromstring(text)  # noqa: S314 - written by libvirt
    for place, pattern in {
        ".": "(memory|currentMemory|vcpu|vcpus)",
        "cpu": "(topology|numa)",
        "cputune": "vcpupin",
        "metadata": r"\{https://kvmfleet.*",
    }.items():
        parent = root.find(place)
        for child in [] if parent is None else list(parent):
            if re.fullmatch(pattern, child.tag):
                parent.remove(child)
    for empty in root.findall("metadata"):
        if not len(empty):
            root.remove(empty)
    return canonical(ET.tostring(root, encoding="unicode"))


def defined(qemu: libvirt.virConnect, text: str) -> str:
    return qemu.defineXMLFlags(text, libvirt.VIR_DOMAIN_DEFINE_VALIDATE).XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)


@pytest.mark.parametrize("name", [*FLEXIBLE, "pinned_numa", "hotplug", "bound_to_host"])
def test_reading_and_writing_changes_nothing(definitions: dict[str, str], name: str) -> None:
    written = _edit.to_string(_definition.parse(definitions[name]))
    assert ET.canonicalize(written, with_comments=True) == ET.canonicalize(definitions[name], with_comments=True)
    assert re.findall(r"xmlns\S*", written) == re.findall(r"xmlns\S*", definitions[name].replace("'", '"'))


@pytest.mark.parametrize("name", [*FLEXIBLE, "pinned_numa", "hotplug"])
def test_the_flavor_in_force_changes_nothing(definitions: dict[str, str], name: str) -> None:
    have = _definition.flavor_in_force(_definition.parse(definitions[name]))
    assert canonical(edited(definitions[name], (have.vcpus, have.ram))) == canonical(definitions[name])


@pytest.mark.parametrize("name", FLEXIBLE)
@given(a=FLAVORS, b=FLAVORS)
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_flavor_a_then_b_then_a_is_flavor_a(definitions: dict[str, str], name: str, a: tuple[int, int], b: tuple[int, int]) -> None:
    text = definitions[name]
    have = _definition.flavor_in_force(_definition.parse(text))
    settled = edited(text, (have.vcpus + a[0], have.ram + a[1]))  # a first flavor takes away what balloons may have left
    assert canonical(edited(settled, a, b, a)) == canonical(edited(settled, a))


@given(a=FLAVORS, more=FLAVORS)
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_growing_and_coming_back_keeps_pins(definitions: dict[str, str], a: tuple[int, int], more: tuple[int, int]) -> None:
    b = (a[0] + more[0], a[1] + more[1])
    assert canonical(edited(definitions["pinned_numa"], a, b, a)) == canonical(edited(definitions["pinned_numa"], a))


@pytest.mark.parametrize("name", [*FLEXIBLE, "pinned_numa", "hotplug"])
@pytest.mark.parametrize("flavor", [(6, 6144), (1, 256), (16, 1024)])
def test_libvirt_takes_the_edit_and_nothing_else_changed(qemu: libvirt.virConnect, definitions: dict[str, str], name: str, flavor: tuple[int, int]) -> None:
    text = definitions[name].replace("host-passthrough", "maximum").replace("host-model", "maximum")
    before = defined(qemu, defined(qemu, text))  # libvirt itself sorts what it was given
    root = _definition.parse(before)
    _flavor.apply_flavor(root, *flavor)
    _flavor.set_kvmfleet_metadata(root, "m1.other", None, "kvm1", "0f5d8f9c-2c1e-4f0a-9d35-3a2a5cf0affd")
    after = defined(qemu, _edit.to_string(root))
    assert _definition.flavor_in_force(_definition.parse(after)) == _definition.FlavorInForce("m1.other", *flavor)
    assert without_flavor(after) == without_flavor(before)


@pytest.mark.parametrize(
    ("vcpus", "topology"),
    [
        (4, {"sockets": "1", "dies": "1", "cores": "2", "threads": "2"}),
        (12, {"sockets": "3", "dies": "1", "cores": "2", "threads": "2"}),
        (6, {"sockets": "6", "dies": "1", "cores": "1", "threads": "1"}),
    ],
)
def test_topology_multiplies_to_the_vcpus(definitions: dict[str, str], vcpus: int, topology: dict[str, str]) -> None:
    root = _definition.parse(edited(definitions["virt_manager_uefi"], (vcpus, 4096)))
    assert root.find("cpu/topology").attrib == topology


def test_a_topology_that_gave_way_comes_back(definitions: dict[str, str]) -> None:
    text = definitions["virt_manager_uefi"]
    assert "kvmfleet:topology" in edited(text, (6, 4096))
    assert canonical(edited(text, (6, 4096), (4, 4096))) == canonical(text)


def test_hotplugged_vcpus_become_all_online(definitions: dict[str, str]) -> None:
    root = _definition.parse(edited(definitions["hotplug"], (4, 4096)))
    assert (root.find("vcpu").text, root.find("vcpu").get("current")) == ("4", None)
    assert [(vcpu.get("id"), vcpu.get("enabled"), vcpu.get("hotpluggable"), vcpu.get("order")) for vcpu in root.findall("vcpus/vcpu")] == [
        ("0", "yes", "no", None),
        ("1", "yes", "yes", None),
        ("2", "yes", "yes", None),
        ("3", "yes", "yes", None),
    ]
    assert root.find("currentMemory").text == "4194304"


def test_the_single_numa_cell_follows(definitions: dict[str, str]) -> None:
    cell = _definition.parse(edited(definitions["pinned_numa"], (8, 8192))).find("cpu/numa/cell")
    assert cell.attrib == {"id": "0", "cpus": "0-7", "memory": "8388608", "unit": "KiB"}


@pytest.mark.parametrize(
    ("old", "new", "code"),
    [
        ("<cell id='0' cpus='0-3' memory='4194304' unit='KiB'/>",
         "<cell id='0' cpus='0-2' memory='3' unit='GiB'/><cell id='1' cpus='3' memory='1' unit='GiB'/>", "unsupported_numa"),
        ("<cell id='0' cpus='0-3' memory='4194304' unit='KiB'/>",
         "".join(f"<cell id='{n}' cpus='{n}' memory='1' unit='GiB'/>" for n in range(4)), None),
        ("<memory unit='KiB'>", "<maxMemory slots='2' unit='MiB'>4096</maxMemory><memory unit='KiB'>", "unsupported_max_memory"),
        ("<cputune>", "<memtune><hard_limit unit='GiB'>4</hard_limit></memtune><cputune>", "unsupported_memtune"),
        ("<cputune>", "<memoryBacking><hugepages><page size='1' unit='GiB'/></hugepages></memoryBacking><cputune>", None),
        ("<cputune>", "<memoryBacking><hugepages><page size='3' unit='GiB'/></hugepages></memoryBacking><cputune>", "unsupported_hugepages"),
    ],
)  # fmt: skip
def test_what_the_flavor_cannot_change_is_refused_only_if_it_must_change(definitions: dict[str, str], old: str, new: str, code: str | None) -> None:
    text = definitions["pinned_numa"].replace(old, new, 1)
    assert canonical(edited(text, (4, 4096))) == canonical(text)
    if code is None:
        edited(text, (4, 8192))
        return
    with pytest.raises(KvmfleetError) as caught:
        edited(text, (4, 8192))
    assert caught.value.code == code


def test_tuning_of_a_vcpu_that_goes_goes_with_it(definitions: dict[str, str]) -> None:
    tuned = (
        "<vcpusched vcpus='2-3' scheduler='fifo' priority='1'/><vcpusched vcpus='0-3,^1' scheduler='rr' priority='2'/>"
        "<cachetune vcpus='0-3'><cache id='0' level='3' type='both' size='3'/><monitor level='3' vcpus='1-3'/><monitor level='3' vcpus='3'/></cachetune>"
        "<memorytune vcpus='1,3'><node id='0' bandwidth='60'/></memorytune><emulatorpin"
    )
    text = definitions["pinned_numa"].replace("<emulatorpin", tuned)
    grown, shrunk = _definition.parse(edited(text, (8, 4096))), _definition.parse(edited(text, (2, 4096)))
    before = _definition.parse(text)
    assert [ET.tostring(element) for element in grown.find("cputune")] == [ET.tostring(element) for element in before.find("cputune")]
    lists = [(element.tag, element.get("vcpus")) for element in shrunk.find("cputune").iter() if element.get("vcpus")]
    assert lists == [("vcpusched", "0"), ("cachetune", "0-1"), ("monitor", "1"), ("memorytune", "1")]
    assert [pin.get("vcpu") for pin in shrunk.findall("cputune/vcpupin")] == ["0", "1"]
    assert shrunk.find("cputune/emulatorpin").get("cpuset") == "0-1"


def test_memory_devices_are_part_of_the_flavor_and_the_cells_have_the_rest(definitions: dict[str, str]) -> None:
    dimm = "<memory model='dimm'><target><size unit='MiB'>1024</size><node>0</node></target></memory>"
    text = (
        definitions["pinned_numa"]
        .replace("<memballoon", f"{dimm}<memballoon")
        .replace("<memory unit='KiB'>", "<maxMemory slots='4' unit='GiB'>16</maxMemory><memory unit='KiB'>", 1)
    )
    root = _definition.parse(edited(text, (4, 8192)))
    assert (root.find("memory").text, root.find("cpu/numa/cell").get("memory")) == ("8388608", str(7168 * 1024))
    assert root.find("devices/memory/target/size").text == "1024"
    with pytest.raises(KvmfleetError) as caught:
        edited(text, (4, 1024))
    assert (caught.value.code, caught.value.details) == ("unsupported_memory_devices", {"need": 1025, "have": 1024})


@pytest.mark.parametrize(("flavor", "cells", "lists"), [((8, 8192), ["0-3", "4-7"], ["0", "2", "3"]), ((2, 2048), ["0", "1"], ["0"])])
def test_libvirt_takes_cells_devices_and_lists(
    qemu: libvirt.virConnect, definitions: dict[str, str], flavor: tuple[int, int], cells: list[str], lists: list[str]
) -> None:
    dimm = "<memory model='dimm'><target><size unit='MiB'>1024</size><node>1</node></target></memory>"
    text = definitions["pinned_numa"]
    for old, new in {
        "<memballoon": f"{dimm}<memballoon",
        "<memory unit='KiB'>": "<maxMemory slots='4' unit='GiB'>16</maxMemory><memory unit='KiB'>",
        "<cell id='0' cpus='0-3' memory='4194304' unit='KiB'/>": (
            "<cell id='0' cpus='0-1' memory='1536' unit='MiB'/><cell id='1' cpus='2-3' memory='1536' unit='MiB'/>"
        ),
        "<emulatorpin": "<vcpusched vcpus='0,2-3' scheduler='fifo' priority='1'/><emulatorpin",
    }.items():
        assert old in text
        text = text.replace(old, new, 1)
    before = defined(qemu, text)
    after = defined(qemu, edited(before, flavor))
    root = _definition.parse(after)
    assert _definition.flavor_in_force(root) == _definition.FlavorInForce(None, *flavor)
    base = (flavor[1] - 1024) * 1024
    assert [(cell.get("cpus"), cell.get("memory")) for cell in root.findall("cpu/numa/cell")] == [(cpus, str(base // 2)) for cpus in cells]
    assert [element.get("vcpus") for element in root.find("cputune").iter() if element.get("vcpus")] == lists
    assert root.find("devices/memory/target/size").text == str(1024 * 1024)


def test_cells_that_are_even_stay_even(definitions: dict[str, str]) -> None:
    cells = "<cell id='0' cpus='0-1' memory='2' unit='GiB' memAccess='shared'/><cell id='1' cpus='2-3' memory='2097152'/>"
    text = definitions["pinned_numa"].replace("<cell id='0' cpus='0-3' memory='4194304' unit='KiB'/>", cells)
    first, second = _definition.parse(edited(text, (8, 6144))).findall("cpu/numa/cell")
    assert first.attrib == {"id": "0", "cpus": "0-3", "memory": str(3072 * 1024), "unit": "KiB", "memAccess": "shared"}
    assert second.attrib == {"id": "1", "cpus": "4-7", "memory": str(3072 * 1024), "unit": "KiB"}
    for flavor in ((5, 6144), (6, 6145)):
        with pytest.raises(KvmfleetError) as caught:
            edited(text, flavor)
        assert (caught.value.code, caught.value.details) == ("unsupported_numa", {"need": 2, "have": list(flavor)})


def test_a_cell_covers_vcpus_that_are_offline(definitions: dict[str, str]) -> None:
    numa = "<numa><cell id='0' cpus='0-7' memory='2097152' unit='KiB'/></numa></cpu>"
    root = _definition.parse(edited(definitions["hotplug"].replace("</cpu>", numa), (2, 4096)))
    assert (root.find("vcpu").text, root.find("cpu/numa/cell").get("cpus")) == ("8", "0-7")


def test_a_disk_changes_its_place_and_format_only(definitions: dict[str, str]) -> None:
    root = _definition.parse(definitions["terraform"])
    _edit.set_disk_source(root, "vda", "/srv/new,place/a b.img", "raw")
    disk = next(disk for disk in _definition.disks(root) if disk.target == "vda")
    assert (disk.path, disk.format) == ("/srv/new,place/a b.img", "raw")
    assert root.find("devices/disk/backingStore") is None
    with pytest.raises(KvmfleetError) as caught:
        _edit.set_disk_source(root, "vdz", "/x")
    assert caught.value.code == "disk_not_found"


def test_nvram_changes_its_place_only(definitions: dict[str, str]) -> None:
    root = _definition.parse(definitions["virt_manager_uefi"])
    before = _definition.firmware(root)
    _edit.set_nvram(root, "/var/lib/libvirt/qemu/nvram/other.fd")
    assert _definition.firmware(root) == _definition.Firmware(**{**vars(before), "nvram": "/var/lib/libvirt/qemu/nvram/other.fd"})
    with pytest.raises(KvmfleetError):
        _edit.set_nvram(_definition.parse(definitions["virt_install"]), "/x")


def test_names_that_this_host_calls_otherwise(definitions: dict[str, str]) -> None:
    root = _definition.parse(definitions["virt_manager_uefi"])
    loader, source = root.findtext("os/loader"), root.find("devices/interface/source")
    before = _edit.to_string(root)
    _edit.map_names(root, {"bridges": {"absent": "x"}, "pools": {"absent": "x"}, "unheard of": {"a": "b"}})
    assert _edit.to_string(root) == before
    (kind, name), *_more = source.attrib.items()
    _edit.map_names(root, {"firmware": {loader: "/edk2/code.fd"}, f"{kind}s": {name: "other"}, "emulators": {root.findtext("devices/emulator"): "/e"}})
    assert (root.findtext("os/loader"), source.get(kind), root.findtext("devices/emulator")) == ("/edk2/code.fd", "other", "/e")


def test_files_of_a_direct_boot_change_their_place_only(definitions: dict[str, str]) -> None:
    root = _definition.parse(definitions["bound_to_host"])
    assert _definition.boot_files(root) == {"kernel": "/boot/vmlinuz", "initrd": "/boot/initrd.img"}
    _edit.set_boot_file(root, "kernel", "/srv/boot/vmlinuz")
    assert _definition.boot_files(root) == {"kernel": "/srv/boot/vmlinuz", "initrd": "/boot/initrd.img"}
    with pytest.raises(KvmfleetError):
        _edit.set_boot_file(root, "dtb", "/x")


def test_metadata_of_others_stays_and_ours_is_replaced(definitions: dict[str, str]) -> None:
    root = _definition.parse(definitions["foreign_metadata"])
    _flavor.set_kvmfleet_metadata(root, "m1.tiny", "az1", "kvm1", "first")
    _flavor.set_kvmfleet_metadata(root, "m1.tiny", None, "kvm2", "second")
    assert _definition.flavor_in_force(root).name == "m1.tiny"
    assert _definition.migration_uuid(root) == "second"
    assert _definition.own_record(root, "availability_zone") is None
    assert len(root.findall("metadata")) == 1
    root.find("metadata").remove(_definition.metadata_element(root))
    assert canonical(_edit.to_string(root)) == canonical(definitions["foreign_metadata"])


def test_a_volume_becomes_a_file_and_a_volume_again() -> None:
    text = (
        "<domain><devices><disk type='volume' device='disk'><driver name='qemu' type='raw'/><source pool='vms' volume='x' mode='host'/>"
        "<target dev='vda'/></disk></devices></domain>"
    )
    root = _definition.parse(text)
    _edit.set_disk_source(root, "vda", "/vms/x.layer", "qcow2")
    (layered,) = _definition.disks(root)
    assert (layered.source_type, layered.path, layered.pool, layered.volume, layered.format) == ("file", "/vms/x.layer", None, None, "qcow2")
    _edit.set_disk_volume(root, "vda", "vms", "x", "raw")
    assert canonical(_edit.to_string(root)) == canonical(text.replace(" mode='host'", ""))


def test_a_layer_is_not_the_end_of_the_chain() -> None:
    text = "<domain><devices><disk type='file'><driver type='qcow2'/><source file='/i/a'/><backingStore/><target dev='vda'/></disk></devices></domain>"
    moved, layered = _definition.parse(text), _definition.parse(text)
    _edit.set_disk_source(moved, "vda", "/j/a")
    _edit.set_disk_source(layered, "vda", "/i/a.layer", "qcow2")
    assert moved.find("devices/disk/backingStore") is not None
    assert layered.find("devices/disk/backingStore") is None
