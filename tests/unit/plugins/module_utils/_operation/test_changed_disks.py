# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A guest that is off gets, grows, changes and loses ephemeral and swap disks, in place and on the way to another host, on real libvirt."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import libvirt
import pytest

from ansible_collections.kvmfleet.compute.plugins.module_utils._domain import definition as _definition
from ansible_collections.kvmfleet.compute.plugins.module_utils._guest.facts import domain_facts
from ansible_collections.kvmfleet.compute.plugins.module_utils._journal.records import Journal
from ansible_collections.kvmfleet.compute.plugins.module_utils._journal.state_dir import StateDir
from ansible_collections.kvmfleet.compute.plugins.module_utils._libvirt import definitions as _definitions
from ansible_collections.kvmfleet.compute.plugins.module_utils._operation import (
    in_place as _in_place,
    receiving as _receiving,
    sealing as _sealing,
)
from ansible_collections.kvmfleet.compute.plugins.module_utils._rules.errors import KvmfleetError
from ansible_collections.kvmfleet.compute.plugins.module_utils._storage import new_files as _new_files, qemu_img as _qemu_img
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.planning import flavor_disks, record as _record

MIB, GIB = 1024**2, 1024**3
OFF = {"timeout": 1, "retry_interval": 1, "on_timeout": "fail"}
WATCH = {"settle": 0, "agent_timeout": 0}


class Host:
    """Carries out resizes of one stopped guest."""

    def __init__(self, qemu: libvirt.virConnect, state: StateDir, images: Path) -> None:
        self.qemu, self.state, self.images, self.journal = qemu, state, images, Journal(state)
        self.operations = 0

    @property
    def domain(self) -> libvirt.virDomain:
        return self.qemu.lookupByName("web01")

    @property
    def xml(self) -> str:
        return _definitions.inactive_xml(self.domain)

    @property
    def files(self) -> list[str]:
        return sorted(os.listdir(self.images))

    @property
    def disks(self) -> dict[str, tuple[str, int]]:
        """Target -> name and bytes."""
        found = [disk for disk in _definition.disks(_definition.parse(self.xml)) if disk.device == "disk"]
        return {disk.target: (os.path.basename(disk.path), _qemu_img.info(disk.path, "qcow2").virtual_size) for disk in found}

    def facts(self, **told: str) -> dict[str, Any]:
        found = domain_facts(self.domain, self.state, image_directories=[str(self.images)], identify=True, **told)
        assert found["refusals"] == []
        return found

    def begin(self, role: str, ephemeral: int = 0, swap: int = 0, **told: str) -> dict[str, Any]:
        """The record of a resize, its new files made."""
        facts = self.facts(**told)
        new = {**facts["flavor"], "name": "f", "ephemeral": ephemeral, "swap": swap}
        changes = flavor_disks.changes("web01", facts, new, moving=role != "in_place")
        entry = {"uuid": facts["uuid"], "name": facts["name"]}
        self.operations += 1
        plan = _record.begun(entry, facts, "kvm1", facts["flavor"], new, True, changes, tuning=None, zone=None, live_differences={}, part_of=None)
        operation = {"uuid": f"00000000-0000-0000-0000-00000000000{self.operations}", "role": role, "destination_host": "kvm1", "owner": "o", "probes": {}}
        record = self.journal.begin({**plan, **operation, "image_directories": [str(self.images)]})
        return _new_files.make(self.journal, record) if role == "in_place" else record

    def resize(self, ephemeral: int = 0, swap: int = 0, **told: str) -> dict[str, Any]:
        record = self.begin("in_place", ephemeral, swap, **told)
        _in_place.resize(self.qemu, self.journal, record, shutdown=OFF, watch=WATCH)
        return self.journal.get(record["uuid"])

    def revert(self, record: dict[str, Any]) -> None:
        _in_place.restore(self.qemu, self.journal, record, status="reverted", shutdown=OFF)

    def confirm(self, record: dict[str, Any]) -> None:
        _in_place.confirm(self.qemu, self.journal, record, timeout=10)


@pytest.fixture
def host(qemu: libvirt.virConnect, state: StateDir, definitions: dict[str, str], images: Path, qemu_img: Callable[[str], str]) -> Host:
    qemu_img("create -q -f qcow2 base.qcow2 100M")
    qemu_img(f"create -q -f qcow2 -b {images}/base.qcow2 -F qcow2 web01.qcow2 {GIB}")
    text = definitions["virt_install"].replace("/var/lib/libvirt/images", str(images)).replace("host-passthrough", "maximum")
    # libvirt puts what it has added itself into another order the second time.
    qemu.defineXML(_definitions.inactive_xml(qemu.defineXML(text)))
    return Host(qemu, state, images)


def write(path: Path, qemu_img: Callable[[str], str], pattern: int) -> None:
    qemu_img_io(path, f"write -P {pattern} 1M 64k")


def holds(path: Path, pattern: int) -> bool:
    return "Pattern verification failed" not in qemu_img_io(path, f"read -P {pattern} 1M 64k")


def qemu_img_io(path: Path, command: str) -> str:
    return subprocess.run(["qemu-io", "-f", "qcow2", "-c", command, str(path)], check=False, capture_output=True, text=True).stdout


def test_in_place_and_back(host: Host) -> None:
    before, files = host.xml, host.files
    record = host.resize(ephemeral=1, swap=64)
    assert host.disks == {
        "vda": ("web01.qcow2.resize-00000000-0000-0000-0000-000000000001", GIB),
        "vdb": ("web01-ephemeral0.qcow2", GIB),
        "vdc": ("web01-swap.qcow2", 64 * MIB),
    }
    assert (host.facts()["flavor"]["ephemeral"], host.facts()["flavor"]["swap"]) == (1, 64)
    host.revert(record)
    assert (host.xml, host.files) == (before, files)


def test_in_place_for_good(host: Host, qemu_img: Callable[[str], str]) -> None:
    """An ephemeral disk grows with its data, also through a revert; a swap disk is made anew; the last flavor has none of it."""
    plain = host.xml
    host.confirm(host.resize(ephemeral=1, swap=64))
    assert host.files == ["base.qcow2", "web01-ephemeral0.qcow2", "web01-swap.qcow2", "web01.qcow2"]
    write(host.images / "web01-ephemeral0.qcow2", qemu_img, 7)
    write(host.images / "web01-swap.qcow2", qemu_img, 8)

    before, files = host.xml, host.files
    record = host.resize(ephemeral=2, swap=128)
    assert host.disks["vdb"][1] == 2 * GIB
    assert host.disks["vdc"] == ("web01-swap-2.qcow2", 128 * MIB)
    assert host.facts()["flavor"]["swap"] == 128
    layers = [f"{name}.resize-{record['uuid']}" for name in ("web01.qcow2", "web01-ephemeral0.qcow2")]
    assert host.files == sorted([*files, *layers, "web01-swap-2.qcow2"])
    host.revert(record)
    assert (host.xml, host.files) == (before, files)
    assert holds(host.images / "web01-swap.qcow2", 8)
    assert host.disks["vdb"] == ("web01-ephemeral0.qcow2", GIB)

    host.confirm(host.resize(ephemeral=2, swap=128))
    assert host.files == ["base.qcow2", "web01-ephemeral0.qcow2", "web01-swap-2.qcow2", "web01.qcow2"]
    assert host.disks["vdb"] == ("web01-ephemeral0.qcow2", 2 * GIB)
    assert holds(host.images / "web01-ephemeral0.qcow2", 7)

    host.confirm(host.resize(ephemeral=2))
    assert list(host.disks) == ["vda", "vdb"]
    assert host.files == ["base.qcow2", "web01-ephemeral0.qcow2", "web01.qcow2"]
    assert plain != host.xml


def test_a_swap_disk_that_stays_as_large_is_like_any_other(host: Host) -> None:
    host.confirm(host.resize(swap=64))
    record = host.resize(ephemeral=1, swap=64)
    assert host.disks["vdb"] == ("web01-swap.qcow2.resize-00000000-0000-0000-0000-000000000002", 64 * MIB)
    host.confirm(record)
    assert host.disks["vdb"] == ("web01-swap.qcow2", 64 * MIB)
    assert host.facts()["flavor"]["swap"] == 64


def test_the_word_of_the_caller_is_kept_for_the_next_time(host: Host, qemu_img: Callable[[str], str]) -> None:
    qemu_img(f"create -q -f qcow2 {host.images}/disk.swap 32M")
    added = "<disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='{}'/><target dev='vdb' bus='virtio'/></disk></devices>"
    host.qemu.defineXML(host.xml.replace("</devices>", added.format(host.images / "disk.swap")))
    host.confirm(host.resize(swap=32, ephemeral=1, swap_disk="vdb"))
    assert host.disks["vdb"] == ("disk.swap", 32 * MIB)
    host.confirm(host.resize(swap=64, ephemeral=1))
    assert host.disks == {"vda": ("web01.qcow2", GIB), "vdb": ("web01-swap.qcow2", 64 * MIB), "vdc": ("web01-ephemeral0.qcow2", GIB)}
    assert "disk.swap" not in host.files


@pytest.mark.parametrize("dies_at", ["before", "define", "bring_up"])
def test_interrupted_in_place_nothing_stays(host: Host, monkeypatch: pytest.MonkeyPatch, dies_at: str) -> None:
    host.confirm(host.resize(swap=64))
    before, files = host.xml, host.files
    record = host.begin("in_place", 1, 128)

    def die(*args: Any, **kwargs: Any) -> Any:
        raise KvmfleetError("died", "died")

    if dies_at != "before":
        module = _in_place._defining if dies_at == "define" else _in_place._starting
        monkeypatch.setattr(module, dies_at, die)
        with pytest.raises(KvmfleetError):
            _in_place.resize(host.qemu, host.journal, record, shutdown=OFF, watch=WATCH)
        monkeypatch.undo()
    _in_place.restore(host.qemu, host.journal, host.journal.get(record["uuid"]), status="error", shutdown=OFF)
    assert (host.xml, host.files) == (before, files)


def test_an_old_swap_disk_that_is_in_use_is_not_removed(host: Host) -> None:
    host.confirm(host.resize(swap=64))
    record = host.resize(swap=128)
    with subprocess.Popen(["qemu-io", "-f", "qcow2", str(host.images / "web01-swap.qcow2")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0) as other:
        assert other.stdout is not None
        assert other.stdout.read(7) == b"qemu-io"
        with pytest.raises(KvmfleetError) as caught:
            host.confirm(record)
        assert caught.value.code == "image_in_use"
        other.communicate(b"quit\n")
    host.confirm(host.journal.get(record["uuid"]))
    assert "web01-swap.qcow2" not in host.files


class TestMoved:
    @pytest.fixture
    def record(self, host: Host) -> dict[str, Any]:
        """At the source, of a move to a flavor with another swap disk and a larger ephemeral one."""
        host.confirm(host.resize(ephemeral=1, swap=64))
        return host.begin("source", ephemeral=2, swap=128)

    def test_the_old_swap_disk_does_not_travel_and_comes_back(self, host: Host, record: dict[str, Any]) -> None:
        before, files = host.xml, host.files
        handed = _sealing.hand_over(host.qemu, host.journal, record, OFF)
        assert set(handed["files"]) == {"vda", "vdb"}
        assert "web01-swap.qcow2.sealed-" + record["uuid"] in host.files
        _sealing.restore(host.qemu, host.journal, record, status="error")
        assert (host.xml, host.files) == (before, files)

    def test_it_is_removed_by_confirm(self, host: Host, record: dict[str, Any]) -> None:
        _sealing.hand_over(host.qemu, host.journal, record, OFF)
        record = host.journal.update(record, status="finished")
        _sealing.discard(host.qemu, host.journal, record)
        assert host.files == ["base.qcow2"]

    def test_the_destination_defines_the_new_one_in_its_place(self, host: Host, record: dict[str, Any], tmp_path: Path) -> None:
        handed = _sealing.hand_over(host.qemu, host.journal, record, OFF)
        disks = [{**disk, "path": f"/there/{os.path.basename(disk['path'])}"} for disk in record["disks"] if not disk.get("left_behind")]
        new = [{**disk, "path": f"/there/{os.path.basename(disk['path'])}"} for disk in record["new_disks"]]
        text = _receiving.arriving({**record, "disks": disks, "new_disks": new, "private": {"domain_xml": handed["manifest"]["domain_xml"]}})
        found = {disk.target: disk.path for disk in _definition.disks(_definition.parse(text)) if disk.device == "disk"}
        assert found == {"vda": "/there/web01.qcow2", "vdb": "/there/web01-ephemeral0.qcow2", "vdc": "/there/web01-swap-2.qcow2"}
