# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a guest has now and its definition does not say is named before a restart takes it away; with real guests that run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import libvirt
import pytest

from ansible_collections.kvmfleet.compute.plugins.module_utils._domain import definition as _definition, edit as _edit
from ansible_collections.kvmfleet.compute.plugins.module_utils._guest import defining as _defining, keeping as _keeping, live_differences as _live_differences
from ansible_collections.kvmfleet.compute.plugins.module_utils._guest.facts import domain_facts
from ansible_collections.kvmfleet.compute.plugins.module_utils._journal.records import Journal
from ansible_collections.kvmfleet.compute.plugins.module_utils._journal.state_dir import StateDir
from ansible_collections.kvmfleet.compute.plugins.module_utils._libvirt import definitions as _definitions, domains as _domains
from ansible_collections.kvmfleet.compute.plugins.module_utils._operation import in_place as _in_place, sealing as _sealing
from ansible_collections.kvmfleet.compute.plugins.module_utils._rules import differences as _differences
from ansible_collections.kvmfleet.compute.plugins.module_utils._rules.errors import KvmfleetError
from ansible_collections.kvmfleet.compute.tests.unit.plugins.module_utils import booted

LIVE, CONFIG = libvirt.VIR_DOMAIN_AFFECT_LIVE, libvirt.VIR_DOMAIN_AFFECT_CONFIG
SHUTDOWN = {"timeout": 60, "retry_interval": 10, "on_timeout": "destroy", "modes": ["acpi"]}
PORTS = "".join(f"<controller type='pci' index='{index}' model='pcie-root-port'/>" for index in range(1, 20))
RICH = f"""
<disk type='file' device='cdrom'><target dev='sda' bus='sata'/><readonly/></disk>
<disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='{{images}}/second.raw'/><target dev='vdz' bus='virtio'/>
<iotune><total_iops_sec>1000</total_iops_sec></iotune></disk>
<controller type='scsi' model='virtio-scsi' index='0'/><controller type='usb' model='qemu-xhci'/><controller type='pci' index='0' model='pcie-root'/>{PORTS}
<interface type='user'><mac address='52:54:00:00:00:01'/><model type='virtio'/><link state='down'/></interface>
<serial type='pty'/><serial type='unix'><source mode='bind' path='{{images}}/serial.sock'/></serial>
<channel type='spicevmc'><target type='virtio' name='com.redhat.spice.0'/></channel>
<graphics type='vnc' autoport='yes' websocket='-1'/><graphics type='spice' autoport='yes'/>
<input type='tablet' bus='usb'/><input type='tablet' bus='usb'/><video><model type='virtio'/></video><sound model='ich9'/>
<watchdog model='i6300esb' action='reset'/><rng model='virtio'><rate bytes='1024' period='1000'/><backend model='random'>/dev/urandom</backend></rng>
<redirdev bus='usb' type='spicevmc'/><memballoon model='virtio'><stats period='5'/></memballoon><panic model='isa'/>
<memory model='dimm'><target><size unit='MiB'>128</size><node>0</node></target></memory>
"""
TUNING = (
    "<title>Front</title><metadata><x:y xmlns:x='http://x.example/1'>kept</x:y></metadata><maxMemory slots='4' unit='MiB'>2048</maxMemory>"
    "<currentMemory unit='MiB'>160</currentMemory><iothreads>2</iothreads><on_crash>restart</on_crash>"
    "<cpu mode='custom'><model>qemu64</model><numa><cell id='0' cpus='0-3' memory='128' unit='MiB'/></numa></cpu>"
)


@pytest.fixture
def rich(qemu: libvirt.virConnect, images: Path) -> libvirt.virDomain:
    """A guest of many kinds of devices, running."""
    disk, second = booted.write(images / "web1.raw", counts=True), images / "second.raw"
    second.write_bytes(bytes(1024 * 1024))
    xml = booted.definition("web1", {"vda": (disk, "raw")}, TUNING, RICH.format(images=images))
    xml = xml.replace("<vcpu>1</vcpu>", "<vcpu current='2'>4</vcpu>").replace("<memory unit='MiB'>64</memory>", "<memory unit='MiB'>256</memory>")
    domain = qemu.defineXML(xml)
    boot(domain, images)
    return domain


def boot(domain: libvirt.virDomain, images: Path) -> None:
    """Start it, and wait until it has booted."""
    before = booted.boots(f"{images}/web1.raw")
    domain.create()
    booted.wait_for(lambda: booted.boots(f"{images}/web1.raw") > before)


@pytest.fixture
def web1(qemu: libvirt.virConnect, images: Path) -> libvirt.virDomain:
    """A plain one, running, with room for another disk."""
    disk = booted.write(images / "web1.raw", counts=True)
    xml = booted.definition("web1", {"vda": (disk, "raw")}, devices=f"<controller type='pci' index='0' model='pcie-root'/>{PORTS}")
    domain = qemu.defineXML(xml)
    booted.start(domain)
    return domain


def trees(domain: libvirt.virDomain) -> tuple[Any, Any]:
    return _definition.parse(_definitions.live_xml(domain)), _definition.parse(_definitions.inactive_xml(domain))


def differences(domain: libvirt.virDomain) -> list[str]:
    return [difference.text for difference in _live_differences.found(*trees(domain))]


def disk(path: Path, target: str) -> str:
    path.write_bytes(bytes(1024 * 1024))
    return f"<disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='{path}'/><target dev='{target}' bus='virtio'/></disk>"


def test_a_guest_of_many_devices_is_what_its_definition_says(rich: libvirt.virDomain) -> None:
    """Whatever libvirt writes of a running guest only: aliases, addresses, ports, paths, the CPU in full, what its balloon holds, labels."""
    assert differences(rich) == []


def test_what_is_changed_while_it_runs_is_named_and_kept(rich: libvirt.virDomain, qemu: libvirt.virConnect, images: Path) -> None:
    """Each change adds its difference; with all of them kept none is left, and the next start has them."""
    medium = images / "medium.iso"
    medium.write_bytes(bytes(1024 * 1024))
    changes: dict[str, Callable[[], Any]] = {
        f"disk vdb: {images}/vdb.raw now, not there by the definition": lambda: rich.attachDeviceFlags(disk(images / "vdb.raw", "vdb"), LIVE),
        "interface 52:54:00:00:00:02: there now, not there by the definition": lambda: rich.attachDeviceFlags(
            "<interface type='user'><mac address='52:54:00:00:00:02'/><model type='virtio'/></interface>", LIVE
        ),
        "memory dimm 131072 0 (number 2): there now, not there by the definition": lambda: rich.attachDeviceFlags(
            "<memory model='dimm'><target><size unit='MiB'>128</size><node>0</node></target></memory>", LIVE
        ),
        f"disk sda medium: {medium} now, none by the definition": lambda: rich.updateDeviceFlags(
            f"<disk type='file' device='cdrom'><source file='{medium}'/><target dev='sda' bus='sata'/><readonly/></disk>", LIVE
        ),
        "disk vdz limits: iotune (total_iops_sec 77) now, iotune (total_iops_sec 1000) by the definition": lambda: rich.setBlockIoTune(
            "vdz", {"total_iops_sec": 77}, LIVE
        ),
        "interface 52:54:00:00:00:01 link: up now, down by the definition": lambda: rich.updateDeviceFlags(
            "<interface type='user'><mac address='52:54:00:00:00:01'/><model type='virtio'/><link state='up'/></interface>", LIVE
        ),
        "vCPUs: 3 of 4 now, 2 of 4 by the definition": lambda: rich.setVcpusFlags(3, LIVE),
        "title: Other now, Front by the definition": lambda: rich.setMetadata(libvirt.VIR_DOMAIN_METADATA_TITLE, "Other", None, None, LIVE),
        "action for a crash: preserve now, restart by the definition": lambda: rich.setLifecycleAction(
            libvirt.VIR_DOMAIN_LIFECYCLE_CRASH, libvirt.VIR_DOMAIN_LIFECYCLE_ACTION_PRESERVE, LIVE
        ),
    }
    expected: set[str] = set()
    for text, change in changes.items():
        change()
        expected.add(text)
        assert set(differences(rich)) == expected
    merged = _live_differences.kept(*trees(rich))
    _defining.define(qemu, _edit.to_string(merged))
    assert differences(rich) == []
    rich.destroy()
    boot(rich, images)
    assert differences(rich) == []
    live = trees(rich)[0]
    assert live.find("devices/disk/target[@dev='vdb']") is not None
    assert (live.findtext("title"), live.find("vcpu").get("current"), len(live.findall("devices/memory"))) == ("Other", "3", 2)


def test_a_medium_that_is_gone_is_none(tmp_path: Path) -> None:
    """Nobody can keep it: to eject it for the next start, or to name another one, is enough; nor does one that is optional come back."""
    gone, there = tmp_path / "gone.iso", tmp_path / "there.iso"
    there.write_bytes(b"")
    drive = "<domain><devices><disk type='file' device='cdrom'>{}<target dev='sda' bus='sata'/></disk></devices></domain>"
    named = {name: _definition.parse(drive.format(f"<source file='{path}'/>")) for name, path in (("gone", gone), ("there", there))}
    named["empty"] = _definition.parse(drive.format(""))
    found = {(live, then) for live in named for then in named if _live_differences.found(named[live], named[then])}
    assert found == {("there", "empty"), ("there", "gone"), ("empty", "there")}


def test_what_its_definition_has_and_the_guest_has_not_would_come_back(web1: libvirt.virDomain, images: Path) -> None:
    """Plugged in for the next start, or taken away only now. A disk is not left out of the definition: its file would stay behind."""
    web1.attachDeviceFlags("<interface type='user'><mac address='52:54:00:00:00:09'/></interface>", CONFIG)
    assert differences(web1) == ["interface 52:54:00:00:00:09: not there now, there by the definition"]
    assert _live_differences.kept(*trees(web1)).find("devices/interface") is None
    web1.attachDeviceFlags(disk(images / "vdb.raw", "vdb"), CONFIG)
    with pytest.raises(KvmfleetError, match=r"disk vdb: not there now, .* by the definition \(its file would stay behind\)") as caught:
        _live_differences.kept(*trees(web1))
    assert caught.value.code == "live_differences"


def test_an_ordinary_guest_that_was_just_started_is_what_its_definition_says(qemu: libvirt.virConnect, images: Path) -> None:
    """Memory of no whole MiB, in cells too, is rounded up; its balloon has not come down yet; and who watches it has its statistics told for now."""
    cells = "<cpu mode='custom'><model>qemu64</model><numa>{}</numa></cpu>".format(
        "".join(f"<cell id='{number}' cpus='{number}' memory='33001' unit='KiB'/>" for number in range(2))
    )
    balloon = "<currentMemory unit='KB'>60000</currentMemory>"
    disk = booted.write(images / "web1.raw", counts=True)
    xml = booted.definition("web1", {"vda": (disk, "raw")}, balloon + cells, "<memballoon model='virtio'/>").replace("<vcpu>1</vcpu>", "<vcpu>2</vcpu>")
    domain = qemu.defineXML(xml)
    booted.start(domain)
    domain.setMemoryStatsPeriod(9, LIVE)
    live, definition = (int(root.findtext("memory")) for root in trees(domain))
    assert (live, definition) == (2 * 33 * 1024, 2 * 33001)
    assert differences(domain) == []


@pytest.mark.parametrize(
    ("now", "defined", "cells", "differs"),
    [
        (1908 * 1024, 1953125, 0, False),
        (1910 * 1024, 1953125, 0, True),
        (1953 * 1024, 1954 * 1024, 0, True),
        (1912 * 1024, 1953125, 4, False),
        (1913 * 1024, 1953125, 4, True),
    ],
)
def test_memory_that_is_rounded_up_is_the_same(now: int, defined: int, cells: int, differs: bool) -> None:
    """To whole MiB, of each cell; more or less than that was changed."""
    numa = f"<cpu><numa>{'<cell/>' * cells}</numa></cpu>"
    live, definition = (_definition.parse(f"<domain><memory unit='KiB'>{size}</memory>{numa}</domain>") for size in (now, defined))
    assert bool(_live_differences.found(live, definition)) == differs


def test_a_memory_device_that_is_rounded_up_is_the_same() -> None:
    device = "<domain><devices><memory model='dimm'><target><size unit='KiB'>{}</size><node>0</node></target></memory></devices></domain>"
    live, definition, other = (_definition.parse(device.format(size)) for size in (2048 * 477, 976563, 2048 * 478))
    assert _live_differences.found(live, definition) == []
    assert len(_live_differences.found(other, definition)) == 2


@pytest.mark.parametrize("now", [50, 100, 200, 400])
def test_what_a_balloon_holds_is_no_difference(now: int) -> None:
    """It comes down after each start, and a host takes memory back by itself."""
    live, definition = (
        _definition.parse(f"<domain><memory unit='MiB'>400</memory><currentMemory unit='MiB'>{size}</currentMemory></domain>") for size in (now, 100)
    )
    assert _live_differences.found(live, definition) == []


def card(kind: str, inner: str) -> Any:
    return _definition.parse(f"<domain><devices><interface type='{kind}'><mac address='52:54:00:00:00:01'/>{inner}</interface></devices></domain>")


IN_NETWORK, IN_BRIDGE = "<source network='default'/>", "<source bridge='br0'/>"
AS_RUN = "<source network='default' portid='x' bridge='virbr0'/><target dev='vnet3'/><alias name='net0'/>"
LIMIT = "<bandwidth><inbound average='{}'/></bandwidth>"


@pytest.mark.parametrize(
    ("live", "defined", "differing"),
    [
        (card("bridge", AS_RUN + LIMIT.format(100)), card("network", IN_NETWORK), []),
        (card("bridge", AS_RUN + LIMIT.format(100)), card("network", IN_NETWORK + LIMIT.format(200)), ["bandwidth"]),
        (card("bridge", AS_RUN), card("network", IN_NETWORK + LIMIT.format(200)), ["bandwidth"]),
        (card("bridge", IN_BRIDGE + LIMIT.format(100)), card("bridge", IN_BRIDGE), ["bandwidth"]),
        (card("hostdev", "<source><address type='pci' bus='0x01'/></source>"), card("network", IN_NETWORK), []),
        (card("hostdev", "<source><address type='pci' bus='0x01'/></source>"), card("bridge", IN_BRIDGE), ["is plugged into"]),
    ],
)
def test_what_a_network_gives_its_cards_is_no_difference(live: Any, defined: Any, differing: list[str]) -> None:
    """The limits of a port group, and devices of the host."""
    assert [found.what.partition("52:54:00:00:00:01 ")[2] for found in _live_differences.found(live, defined)] == differing


@pytest.mark.parametrize(
    ("live", "defined", "kind", "source"),
    [
        (card("bridge", IN_BRIDGE + "<target dev='vnet3'/>"), card("network", IN_NETWORK), "bridge", {"bridge": "br0"}),
        (card("bridge", AS_RUN), card("bridge", IN_BRIDGE), "network", {"network": "default"}),
        (card("network", AS_RUN), card("bridge", IN_BRIDGE), "network", {"network": "default"}),
        (card("bridge", AS_RUN), card("network", "<source network='other'/>"), "network", {"network": "default"}),
        (card("bridge", IN_BRIDGE), card("bridge", "<source bridge='br1'/>"), "bridge", {"bridge": "br0"}),
    ],
)
def test_a_card_that_is_plugged_into_another_kind_of_network_is_kept_there(live: Any, defined: Any, kind: str, source: dict[str, str]) -> None:
    merged = _live_differences.kept(live, defined)
    (kept,) = merged.findall("devices/interface")
    assert (kept.get("type"), [found.attrib for found in kept.findall("source")]) == (kind, [source])
    assert _live_differences.found(live, merged) == []


@pytest.mark.parametrize(
    ("live", "defined", "why"),
    [
        (card("direct", "<source dev='eth0' mode='bridge'/>"), card("network", IN_NETWORK), "of type network, and it is of type direct now"),
        (card("hostdev", "<source><address type='pci' bus='0x01'/></source>"), card("bridge", IN_BRIDGE), "of type bridge, and it is of type hostdev now"),
        (card("bridge", IN_BRIDGE + "<virtualport type='openvswitch'/>"), card("network", IN_NETWORK), "who sets its virtualport is not known"),
        (card("bridge", AS_RUN), card("bridge", IN_BRIDGE + "<vlan><tag id='5'/></vlan>"), "who sets its vlan is not known"),
    ],
)
def test_a_card_whose_connection_the_definition_cannot_say_is_not_kept(live: Any, defined: Any, why: str) -> None:
    """The plan says so, rather than libvirt when it is to start."""
    with pytest.raises(KvmfleetError, match=why) as caught:
        _live_differences.kept(live, defined)
    assert caught.value.code == "live_differences"


def test_a_network_card_of_a_libvirt_network_is_as_it_is_defined() -> None:
    """libvirt tells of a running guest the bridge that the network came to, and the device."""
    defined = _definition.parse(
        "<domain><devices><interface type='network'><mac address='52:54:00:00:00:01'/><source network='default'/></interface></devices></domain>"
    )
    live = _definition.parse(
        "<domain><devices><interface type='bridge'><mac address='52:54:00:00:00:01'/><source network='default' portid='x' bridge='virbr0'/>"
        "<target dev='vnet3'/><alias name='net0'/></interface></devices></domain>"
    )
    assert _live_differences.found(live, defined) == []
    empty = _definition.parse("<domain><devices/></domain>")
    (added,) = _live_differences.kept(live, empty).findall("devices/interface")
    assert (added.get("type"), added.find("source").attrib, added.find("target"), added.find("alias")) == ("network", {"network": "default"}, None, None)


def test_what_a_newer_libvirt_adds_to_each_definition_is_no_difference() -> None:
    """It was upgraded while the guest runs."""
    added = "<watchdog model='itco' action='reset'/><audio id='1' type='none'/><input type='mouse' bus='ps2'/><controller type='pci' index='9' model='x'/>"
    live, definition = (_definition.parse(f"<domain><devices>{devices}</devices></domain>") for devices in ("", added))
    assert _live_differences.found(live, definition) == []


class TestFacts:
    @pytest.fixture
    def plugged(self, web1: libvirt.virDomain, images: Path) -> libvirt.virDomain:
        web1.attachDeviceFlags(disk(images / "vdb.raw", "vdb"), LIVE)
        return web1

    def test_they_name_what_differs(self, plugged: libvirt.virDomain, state: StateDir, images: Path) -> None:
        found = domain_facts(plugged, state, image_directories=[str(images)])
        assert [item["what"] for item in found["live_differences"]] == ["disk vdb"]
        assert [item["target"] for item in found["disks"]] == ["vda"]

    def test_with_what_is_kept_they_are_those_of_all_that_it_has(self, plugged: libvirt.virDomain, state: StateDir, images: Path) -> None:
        found = domain_facts(plugged, state, image_directories=[str(images)], live_differences="keep")
        assert [(item["target"], item.get("virtual_size")) for item in found["disks"]] == [("vda", 2**20), ("vdb", 2**20)]
        assert found["refusals"] == []

    def test_what_is_kept_is_refused_as_if_it_were_defined(self, plugged: libvirt.virDomain, state: StateDir, images: Path) -> None:
        found = domain_facts(plugged, state, image_directories=[str(images / "other")], live_differences="keep")
        assert any("vdb" in refusal["reason"] and refusal["code"] == "image_outside_directories" for refusal in found["refusals"])


class TestStop:
    """Somebody changes the guest between the plan and the stop."""

    @pytest.fixture
    def journal(self, state: StateDir) -> Journal:
        return Journal(state)

    def stop(self, qemu: Any, journal: Journal, record: dict[str, Any]) -> None:
        if record["role"] == "source":
            _sealing.hand_over(qemu, journal, record, SHUTDOWN)
        else:
            _in_place.resize(qemu, journal, record, shutdown=SHUTDOWN, watch={"settle": 0, "agent_timeout": 0})

    @pytest.mark.parametrize("role", ["source", "in_place"])
    def test_what_was_plugged_in_since_the_plan_keeps_it_running(
        self, web1: libvirt.virDomain, qemu: libvirt.virConnect, journal: Journal, images: Path, role: str
    ) -> None:
        record = booted.record_of(journal, web1, role, images)
        web1.attachDeviceFlags(disk(images / "vdb.raw", "vdb"), LIVE)
        with pytest.raises(KvmfleetError, match=r"disk vdb: .*; or 2\. repeat with live_differences=keep") as caught:
            self.stop(qemu, journal, record)
        assert (caught.value.code, web1.isActive(), journal.get(record["uuid"])["step"]) == ("live_differences", True, "begun")

    def test_what_the_plan_named_may_go_and_nothing_else(self, web1: libvirt.virDomain, qemu: libvirt.virConnect, journal: Journal, images: Path) -> None:
        web1.attachDeviceFlags(disk(images / "vdb.raw", "vdb"), LIVE)
        named = {"answer": "drop", "found": differences(web1)}
        record = booted.record_of(journal, web1, "source", images, live_differences=named)
        web1.attachDeviceFlags(disk(images / "vdc.raw", "vdc"), LIVE)
        with pytest.raises(KvmfleetError, match="disk vdc") as caught:
            self.stop(qemu, journal, record)
        assert "vdb" not in caught.value.message
        assert web1.isActive()
        record = journal.update(journal.get(record["uuid"]), live_differences={"answer": "drop", "found": differences(web1)})
        self.stop(qemu, journal, record)
        assert _domains.find_domain(qemu, "web1") is None


class TestKeep:
    @pytest.fixture
    def journal(self, state: StateDir) -> Journal:
        return Journal(state)

    @pytest.fixture
    def begun(self, web1: libvirt.virDomain, journal: Journal, images: Path) -> dict[str, Any]:
        """An operation on a guest with a disk that was plugged in, which is to keep it."""
        web1.attachDeviceFlags(disk(images / "vdb.raw", "vdb"), LIVE)
        return booted.record_of(journal, web1, "source", images, live_differences={"answer": "keep", "found": differences(web1)})

    def test_its_definition_gets_what_it_has_and_loses_it_again_where_it_does_not_move(
        self, web1: libvirt.virDomain, qemu: libvirt.virConnect, journal: Journal, begun: dict[str, Any]
    ) -> None:
        before = _definitions.inactive_xml(web1)
        record = _keeping.keep(qemu, journal, begun, web1)
        assert (differences(web1), record["xml_digest"]) == ([], _definitions.fingerprint(web1))
        assert _keeping.keep(qemu, journal, record, web1) == record
        _sealing.restore(qemu, journal, record, status="error")
        assert (_definitions.inactive_xml(web1), web1.isActive()) == (before, True)
        assert "before_keeping" not in journal.get(record["uuid"])

    def test_one_that_was_stopped_and_goes_back_has_all_that_it_had(
        self, web1: libvirt.virDomain, qemu: libvirt.virConnect, journal: Journal, begun: dict[str, Any]
    ) -> None:
        """Its definition is as before all the same."""
        before, named = _definitions.inactive_xml(web1), differences(web1)
        record = _keeping.keep(qemu, journal, begun, web1)
        assert "vdb" in _sealing.hand_over(qemu, journal, record, SHUTDOWN)["manifest"]["domain_xml"]
        _sealing.restore(qemu, journal, journal.get(record["uuid"]), status="error")
        web1 = _domains.find_domain(qemu, "web1")
        assert (web1.isActive(), differences(web1), _definitions.inactive_xml(web1)) == (True, named, before)

    def test_one_whose_module_died_right_after_it_was_defined_is_as_before(
        self, web1: libvirt.virDomain, qemu: libvirt.virConnect, journal: Journal, begun: dict[str, Any]
    ) -> None:
        before = _definitions.inactive_xml(web1)
        record = _keeping.keep(qemu, journal, begun, web1)
        record = journal.update(record, kept_digest=None, xml_digest=begun["xml_digest"])
        _sealing.restore(qemu, journal, record, status="error")
        assert (_definitions.inactive_xml(web1), web1.isActive()) == (before, True)

    def test_what_somebody_has_changed_since_is_left_alone(
        self, web1: libvirt.virDomain, qemu: libvirt.virConnect, journal: Journal, begun: dict[str, Any]
    ) -> None:
        record = _keeping.keep(qemu, journal, begun, web1)
        web1.setMetadata(libvirt.VIR_DOMAIN_METADATA_TITLE, "Other", None, None, CONFIG)
        changed = _definitions.inactive_xml(web1)
        _sealing.restore(qemu, journal, record, status="error")
        assert _definitions.inactive_xml(web1) == changed

    def test_what_the_plan_has_not_named_is_not_kept(
        self, web1: libvirt.virDomain, qemu: libvirt.virConnect, journal: Journal, begun: dict[str, Any], images: Path
    ) -> None:
        before = _definitions.inactive_xml(web1)
        web1.attachDeviceFlags(disk(images / "vdc.raw", "vdc"), LIVE)
        with pytest.raises(KvmfleetError, match="disk vdc") as caught:
            _keeping.keep(qemu, journal, begun, web1)
        assert (caught.value.code, _definitions.inactive_xml(web1)) == ("live_differences", before)


def test_the_first_boot_of_a_guest_of_virt_install_is_told_as_such(qemu: libvirt.virConnect, images: Path) -> None:
    """It starts one definition and leaves another one, with another action for a reboot alone; what else differs tells nothing of that."""
    xml = booted.definition("web1", {"vda": (booted.write(images / "web1.raw", counts=True), "raw")})
    first = xml.replace("</domain>", "<on_reboot>destroy</on_reboot></domain>")
    assert "<on_reboot>" not in xml
    domain = qemu.createXML(first)
    qemu.defineXML(xml)
    found = differences(domain)
    assert found == ["action for a reboot: destroy now, restart by the definition"]
    assert "This is the first boot of a guest of virt-install" in _differences.refusal("web1", found)
    assert "first boot" not in _differences.refusal("web1", ["action for a reboot: restart now, destroy by the definition"])
