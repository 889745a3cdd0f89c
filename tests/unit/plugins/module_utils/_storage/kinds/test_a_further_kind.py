# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A kind of storage is one file and one line: one that only this test has goes through a whole move, there and back, with real libvirt and real images.

It stands for volumes of LVM: a disk is of the type block, bears a name in the group that its host has, and is renamed, measured, grown and removed with tools
of its own. Nothing else is changed for it but the rows of the table of references, which refuse such disks as long as no kind can carry them.
"""

from __future__ import annotations

import os
import secrets
import subprocess
import uuid
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import libvirt
import pytest

from ansible_collections.kvmfleet.compute.plugins.module_utils._channel.export import Server
from ansible_collections.kvmfleet.compute.plugins.module_utils._domain import definition as _definition, edit as _edit, references as _references
from ansible_collections.kvmfleet.compute.plugins.module_utils._guest.facts import domain_facts
from ansible_collections.kvmfleet.compute.plugins.module_utils._host.state import Reserved
from ansible_collections.kvmfleet.compute.plugins.module_utils._journal.records import Journal
from ansible_collections.kvmfleet.compute.plugins.module_utils._journal.state_dir import StateDir
from ansible_collections.kvmfleet.compute.plugins.module_utils._operation import (
    admission as _admission,
    placing as _placing,
    receiving as _receiving,
    sealing as _sealing,
    withdrawing as _withdrawing,
)
from ansible_collections.kvmfleet.compute.plugins.module_utils._rules.errors import KvmfleetError
from ansible_collections.kvmfleet.compute.plugins.module_utils._storage.disk_use import DiskUses
from ansible_collections.kvmfleet.compute.plugins.module_utils._storage.kinds import registry as _kinds
from ansible_collections.kvmfleet.compute.plugins.module_utils._storage.kinds.kind import Arrived, Claim, Examined, Kind
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.planning import flavor_disks, record as planned, storage
from ansible_collections.kvmfleet.compute.tests.unit.plugins.module_utils import handed

PORTS = "27900-27927"
GUEST = "0f5d8f9c-2c1e-4f0a-9d35-3a2a5cf0a101"
CUT = {"timeout": 0, "retry_interval": 1, "on_timeout": "destroy", "modes": ["acpi"]}
MIB = 1024**2


class Group(Kind):
    """A volume in the group that this host has."""

    source_types = ("block",)
    makes_directories = False
    group: ClassVar[str]
    done: ClassVar[list[str]]

    def facts(self, guest: Examined, disk: _definition.Disk) -> dict[str, Any]:
        size = os.path.getsize(disk.path or "")
        layer = {"path": disk.path, "format": "raw", "virtual_size": size, "allocated_bytes": size, "file_bytes": size, "encrypted": False, "corrupt": False}
        return {"chain": [{**layer, "dirty": False, "snapshots": []}], "virtual_size": size, "allocated_bytes": size, "file_bytes": size}

    def unfit(self, disk: _definition.Disk) -> str | None:
        return None

    def holds(self, disk: Mapping[str, Any]) -> bool:
        return "/group-" in str(disk.get("path"))

    def here(self, conn: Any, disk: Mapping[str, Any], path: str | None) -> str:
        return os.path.join(self.group, os.path.basename(disk["path"]))

    def place(self, disk: dict[str, Any], here: str, claim: Claim) -> dict[str, Any]:
        return self.called(disk, here)

    def define(self, root: ET.Element, disk: Mapping[str, Any], image_format: str | None = None) -> None:
        _edit.set_disk_place(root, disk["target"], "block", {"dev": disk["path"]}, image_format)

    def sealed_path(self, record: Mapping[str, Any], disk: Mapping[str, Any]) -> str | None:
        return f"{disk['path']}_sealed"

    def rename(self, old: str, new: str) -> None:
        self.done.append(f"lvrename {os.path.basename(old)} {os.path.basename(new)}")
        os.rename(old, new)

    def remove(self, path: str) -> None:
        self.done.append(f"lvremove {os.path.basename(path)}")
        os.unlink(path)

    def length(self, path: str) -> int:
        self.done.append(f"lvs {os.path.basename(path)}")
        return os.path.getsize(path)

    def adopt(self, journal: Journal, record: dict[str, Any], disk: Mapping[str, Any], arrived: Arrived) -> dict[str, Any]:
        if os.path.getsize(arrived.part) != disk["virtual_size"]:
            raise KvmfleetError("chain_changed", "it is not of the size that the plan says")
        self.grow(arrived.part, disk, arrived.key)
        return record

    def grow(self, path: str, disk: Mapping[str, Any], key: bytes | None) -> None:
        self.done.append(f"lvextend to {disk['grow_to']}")
        os.truncate(path, disk["grow_to"])


class Ends:
    """Both ends of a move of web1, whose only disk is in a group; the hosts are two directories, and libvirt is one for both."""

    def __init__(self, conn: libvirt.virConnect, top: Path, images: Path) -> None:
        self.conn, self.images = conn, images
        self.there, self.here = images / "group-one", images / "group-two"
        for group in (self.there, self.here):
            group.mkdir()
        self.source, self.destination = (Journal(StateDir(str(top / name))) for name in ("source", "destination"))
        subprocess.run(["qemu-img", "create", "-q", "-f", "raw", self.there / "web1", "4M"], check=True)
        subprocess.run(["qemu-io", "-f", "raw", "-c", "write -q -P 7 1M 1M", self.there / "web1"], check=True)
        disk = f"<disk type='block' device='disk'><driver name='qemu' type='raw'/><source dev='{self.there}/web1'/><target dev='vda' bus='virtio'/></disk>"
        self.conn.defineXML(
            f"<domain type='qemu'><name>web1</name><uuid>{GUEST}</uuid><memory unit='MiB'>64</memory><vcpu>1</vcpu>"
            f"<os><type arch='x86_64' machine='q35'>hvm</type></os><devices>{disk}</devices></domain>"
        )
        self.uuid = str(uuid.uuid4())
        self.server = Server(self.source.state, self.uuid)
        self.key = secrets.token_hex(32)
        self.port = self.server.open(address="127.0.0.1", ports=PORTS, key=self.key, idle_timeout=120)

    @property
    def disk(self) -> tuple[str | None, str | None]:
        """Type and place of the disk by the definition."""
        (found,) = _definition.disks(_definition.parse(self.conn.lookupByName("web1").XMLDesc(0)))
        return found.source_type, found.path

    def facts(self) -> dict[str, Any]:
        return domain_facts(self.conn.lookupByName("web1"), self.source.state, image_directories=[str(self.images)])

    def plan(self) -> dict[str, Any]:
        """As the controller makes it: it has no line for this kind."""
        facts = self.facts()
        (disk,) = facts["disks"]
        host = {"host": "kvm1", "images_path": str(self.images)}
        self.answers = storage.place(facts, host, {**host, "host": "kvm2"})
        told = handed.plan("web1", GUEST, [planned.disk_of(disk, 8 * MIB, flavor_disks.NONE)], xml_digest=facts["xml_digest"])
        return {**told, "new_flavor": {**told["new_flavor"], "ram": 96}}

    def seal(self) -> None:
        self.source.begin(
            dict(self.plan(), probes={}, uuid=self.uuid, owner="run", role="source", destination_host="kvm2", image_directories=[str(self.images)])
        )
        found = _sealing.hand_over(self.conn, self.source, self.source.get(self.uuid), CUT)
        for name, path in found["files"].items():
            self.server.offer_file(name, path, checksum=True)
        self.server.offer_manifest(found["manifest"])

    def claim(self) -> dict[str, Any]:
        names = ("machine", "emulator", "loader", "nvram_template", "host_cpus", "huge_pages", "dedicated")
        lists = ("networks", "bridges", "mtus", "pinned_cpus", "network_disks", "macs")
        needed = {**dict.fromkeys(names), **{name: [] for name in lists}, "arch": "x86_64", "virt_type": "qemu"}
        record = _placing.new_record(
            self.conn,
            {
                "plan": {name: value for name, value in self.source.get(self.uuid).items() if name in handed.plan("", "", [])},
                "requirements": {**needed, "emulator": self.conn_emulator()},
                "role": "destination",
                "storage": self.answers,
                "probes": {},
                "migration_uuid": self.uuid,
                "owner": "run",
                "destination_host": "kvm2",
                "images_path": str(self.images),
                "image_directories": [str(self.images)],
                "mappings": {},
                "requested_by": {},
                "reason": None,
            },
        )
        ratios = {"cpu": 1000, "ram": 1000, "disk": 1000}
        _admission.admit(
            self.conn, self.destination, record, requirements=record["requirements"], images_path=str(self.images), reserved=Reserved(), ratios=ratios,
            proofs={}, key=None,
        )  # fmt: skip
        return self.destination.get(self.uuid)

    def conn_emulator(self) -> str | None:
        return _definition.parse(self.source.get(self.uuid)["private"]["domain_xml"]).findtext("devices/emulator")

    def receive(self) -> None:
        channel = {"address": "127.0.0.1", "port": self.port, "key": self.key, "stall_timeout": 5}
        record, watch = self.destination.get(self.uuid), {"settle": 0, "agent_timeout": 0}
        _receiving.receive(self.conn, self.destination, record, channel=channel, bases={}, verify="extents", watch=watch)


@pytest.fixture
def ends(qemu: libvirt.virConnect, tmp_path: Path, images: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ends]:
    rules = [rule._replace(answer=_references.CARRY) if rule.kind == "block_disk" and rule.value == "@dev" else rule for rule in _references.RULES]
    monkeypatch.setattr(_references, "RULES", rules)
    monkeypatch.setattr(_kinds, "ALL", (Group(), *_kinds.ALL))  # the line
    monkeypatch.setattr(Group, "done", [], raising=False)
    found = Ends(qemu, tmp_path, images)
    monkeypatch.setattr(Group, "group", str(found.here), raising=False)
    yield found
    found.server.close()


def holds_what_was_written(path: Path) -> bool:
    command = ["qemu-io", "-r", "-f", "raw", "-c", "read -q -P 0 0 1M", "-c", "read -q -P 7 1M 1M", str(path)]
    return not subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_its_disk_is_described_and_planned(ends: Ends) -> None:
    facts = ends.facts()
    assert facts["refusals"] == []
    assert (facts["disks"][0]["source_type"], facts["disks"][0]["virtual_size"], facts["flavor"]["disk"]) == ("block", 4 * MIB, 1)
    (disk,) = ends.plan()["disks"]
    assert (disk["path"], disk["chain"], disk["grow_to"]) == (f"{ends.there}/web1", [[f"{ends.there}/web1", "raw", 4 * MIB]], 8 * MIB)
    assert DiskUses(ends.conn, ends.source.state).of([disk["path"]])[disk["path"]][0].who == "guest web1 (disk vda)"


def test_a_guest_moves_with_it_and_comes_back(ends: Ends) -> None:
    ends.seal()
    assert sorted(os.listdir(ends.there)) == ["web1_sealed"]
    record = ends.claim()
    assert record["disks"][0]["path"] == f"{ends.here}/web1"
    ends.receive()
    assert (ends.disk, sorted(os.listdir(ends.here))) == (("block", f"{ends.here}/web1"), ["web1"])
    assert os.path.getsize(ends.here / "web1") == 8 * MIB
    assert holds_what_was_written(ends.here / "web1")
    assert Group.done == ["lvrename web1 web1_sealed", "lvs web1_sealed", f"lvextend to {8 * MIB}"]
    ends.source.update(ends.source.get(ends.uuid), status="finished", step="finished")
    _withdrawing.undefine(ends.conn, ends.destination, ends.destination.get(ends.uuid), CUT)
    _withdrawing.withdraw(ends.conn, ends.destination, ends.destination.get(ends.uuid), status="reverted")
    ends.source.update(ends.source.get(ends.uuid), status="reverting", step="reverting")
    _sealing.restore(ends.conn, ends.source, ends.source.get(ends.uuid), status="reverted")
    assert (ends.disk, os.listdir(ends.there), os.listdir(ends.here)) == (("block", f"{ends.there}/web1"), ["web1"], [])
    assert Group.done[3:] == ["lvremove web1", "lvrename web1_sealed web1"]
    assert holds_what_was_written(ends.there / "web1")


def test_the_copy_of_a_guest_that_is_confirmed_goes(ends: Ends) -> None:
    ends.seal()
    ends.claim()
    ends.receive()
    Group.done.clear()
    ends.source.update(ends.source.get(ends.uuid), status="finished", step="finished")
    assert _sealing.discard(ends.conn, ends.source, ends.source.get(ends.uuid))
    assert (Group.done, os.listdir(ends.there), os.listdir(ends.here)) == (["lvremove web1_sealed"], [], ["web1"])


def test_what_has_come_is_proven_by_the_kind(ends: Ends) -> None:
    ends.seal()
    record = ends.claim()
    ends.destination.update(record, disks=[{**record["disks"][0], "virtual_size": 5 * MIB}])
    with pytest.raises(KvmfleetError) as caught:
        ends.receive()
    assert caught.value.code == "chain_changed"
    assert ("web1" in os.listdir(ends.here), ends.conn.listAllDomains()) == (False, [])
