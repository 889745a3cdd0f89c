# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A guest is started once, and what it may have written to is never discarded but by a person; with real guests."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import libvirt
import pytest

from ansible_collections.kvmfleet.compute.plugins.module_utils._guest import power as _power
from ansible_collections.kvmfleet.compute.plugins.module_utils._journal import claims as _claims
from ansible_collections.kvmfleet.compute.plugins.module_utils._journal.records import Journal
from ansible_collections.kvmfleet.compute.plugins.module_utils._journal.state_dir import StateDir
from ansible_collections.kvmfleet.compute.plugins.module_utils._libvirt import definitions as _definitions, domains as _domains
from ansible_collections.kvmfleet.compute.plugins.module_utils._operation import in_place as _in_place, receiving as _receiving, withdrawing as _withdrawing
from ansible_collections.kvmfleet.compute.plugins.module_utils._rules.errors import KvmfleetError
from ansible_collections.kvmfleet.compute.plugins.module_utils._storage import run_evidence as _run_evidence
from ansible_collections.kvmfleet.compute.tests.unit.plugins.module_utils import booted

CUT = {"timeout": 0, "retry_interval": 1, "on_timeout": "destroy", "modes": ["acpi"]}
WATCH = {"settle": 0, "agent_timeout": 0}


class Died(BaseException):
    """Stands for SIGKILL: no code of ours sees it but to get out of the way."""


def die(*args: Any, **kwargs: Any) -> Any:
    raise Died


@pytest.fixture
def journal(state: StateDir) -> Journal:
    return Journal(state)


@pytest.fixture
def web1(qemu: libvirt.virConnect, images: Path) -> libvirt.virDomain:
    """It writes to its disk as it boots."""
    return qemu.defineXML(booted.definition("web1", {"vda": (booted.write(images / "web1.raw", counts=True), "raw")}))


class Copy:
    """A copy that is complete and defined, and that the guest ran before: at the destination, or layers in place."""

    def __init__(self, role: str, qemu: libvirt.virConnect, journal: Journal, web1: libvirt.virDomain, images: Path) -> None:
        self.role, self.qemu, self.journal = role, qemu, journal
        record = booted.record_of(journal, web1, role, images)
        self.path = record["disks"][0]["path"]
        if role == "in_place":
            self.path = _in_place.layer_path(record, record["disks"][0])
        self.uuid = record["uuid"]
        journal.update(record, was_running=True)

    @property
    def record(self) -> dict[str, Any]:
        return self.journal.get(self.uuid)

    @property
    def domain(self) -> libvirt.virDomain:
        return self.qemu.lookupByName("web1")

    def complete(self) -> None:
        """Bring it to its start and beyond."""
        record = self.record
        if self.role == "in_place":
            _in_place.resize(self.qemu, self.journal, record, shutdown=CUT, watch=WATCH)
            return
        if record["status"] == "pre-migrating":
            record = self.journal.update(record, status="migrating", inodes={self.path: os.stat(self.path).st_ino}, autostart=False)
            stamps = _run_evidence.stamps(_receiving._written_to(record))
            record = self.journal.update(record, step="defining", published=stamps, private={"domain_xml": _definitions.inactive_xml(self.domain)})
        _receiving.receive(self.qemu, self.journal, record, channel={}, bases={}, verify="none", watch=WATCH)

    def go_back(self) -> None:
        """What the undo of an operation would do."""
        if self.role == "in_place":
            _in_place.restore(self.qemu, self.journal, self.record, status="error", shutdown=CUT)
        else:
            _withdrawing.undefine(self.qemu, self.journal, self.record, CUT)
            _withdrawing.withdraw(self.qemu, self.journal, self.record, status="error")

    @property
    def has_run(self) -> str | None:
        return _run_evidence.has_run(_domains.find_domain(self.qemu, "web1"), self.record)

    def let_it_write(self) -> None:
        """Somebody starts it; it boots, and goes off."""
        booted.start(self.domain)
        self.domain.destroy()


@pytest.fixture(params=["destination", "in_place"])
def copy(request: pytest.FixtureRequest, qemu: libvirt.virConnect, journal: Journal, web1: libvirt.virDomain, images: Path) -> Copy:
    return Copy(request.param, qemu, journal, web1, images)


def interrupted(copy: Copy, monkeypatch: pytest.MonkeyPatch, module: Any, function: str) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(module, function, die)
        with pytest.raises(Died):
            copy.complete()


def test_the_journal_says_that_the_guest_was_started_before_anybody_watches_it(copy: Copy, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupted(copy, monkeypatch, _power, "watch")
    assert copy.record["step"] == "started"
    assert [entry["step"] for entry in copy.record["history"]][-3:] == ["defined", "starting", "started"]
    assert copy.domain.isActive()


@pytest.mark.parametrize("since", ["off", "paused"])
def test_a_guest_that_was_started_is_neither_taken_back_nor_started_again(copy: Copy, monkeypatch: pytest.MonkeyPatch, since: str) -> None:
    interrupted(copy, monkeypatch, _power, "watch")
    {"off": copy.domain.destroy, "paused": copy.domain.suspend}[since]()
    with pytest.raises(KvmfleetError) as caught:
        copy.go_back()
    assert caught.value.code == "guest_has_run"
    assert os.path.exists(copy.path)
    copy.complete()
    assert copy.record["status"] == "finished"
    assert copy.domain.isActive() == (since == "paused")


def test_a_start_that_nobody_saw_the_end_of_counts_if_the_guest_has_written(copy: Copy, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupted(copy, monkeypatch, _power, "start")
    assert (copy.record["step"], copy.has_run) == ("starting", None)
    copy.let_it_write()
    assert copy.path in (copy.has_run or "")
    with pytest.raises(KvmfleetError, match=copy.path):
        copy.go_back()
    copy.complete()
    assert (copy.record["status"], copy.domain.isActive()) == ("finished", False)


def test_a_guest_that_somebody_else_starts_before_we_do_counts_as_started(copy: Copy, monkeypatch: pytest.MonkeyPatch) -> None:
    """Autostart after a crash of the host, for example, between the definition and our start."""
    module = _receiving._belongings if copy.role == "destination" else _in_place._kinds
    interrupted(copy, monkeypatch, module, "redefine" if copy.role == "destination" else "sync")
    assert copy.record["step"] == "defining"
    booted.start(copy.domain)
    assert copy.has_run == "it is active there"
    with pytest.raises(KvmfleetError) as caught:
        copy.go_back()
    assert caught.value.code == "guest_has_run"
    assert copy.domain.isActive()
    assert os.path.exists(copy.path)
    copy.complete()
    assert (copy.record["status"], copy.domain.isActive()) == ("finished", True)


def test_a_start_that_never_came_to_qemu_is_undone(copy: Copy, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupted(copy, monkeypatch, _power, "start")
    copy.go_back()
    assert copy.record["status"] == "error"
    assert not os.path.exists(copy.path)


def test_going_back_goes_on_where_it_was_interrupted_with_files_that_are_gone(copy: Copy, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupted(copy, monkeypatch, _power, "start")
    with monkeypatch.context() as patch:
        patch.setattr(_claims, "remove", die)
        with pytest.raises(Died):
            copy.go_back()
    assert not os.path.exists(copy.path)
    assert copy.record["status"] == "post-migrating"
    copy.go_back()
    assert copy.record["status"] == "error"


def test_a_start_that_libvirt_refuses_is_undone(copy: Copy, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(domain: libvirt.virDomain) -> float:
        """QEMU itself fails, with the disks open already."""
        os.utime(copy.path)  # as where it has marked a bitmap
        copy.qemu.createXML(_definitions.inactive_xml(domain).replace("<devices>", "<devices><emulator>/bin/false</emulator>"))
        raise AssertionError("it started")

    with monkeypatch.context() as patch:
        patch.setattr(_power, "start", broken)
        with pytest.raises(libvirt.libvirtError):
            copy.complete()
    assert (copy.record["step"], copy.has_run) == ("defined", None)
    copy.go_back()
    assert copy.record["status"] == "error"


def test_a_guest_that_goes_off_at_once_without_a_write_is_undone(copy: Copy, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(_power, "watch", lambda domain, **options: domain.destroy() or {})
        with pytest.raises(KvmfleetError, match="It has written nothing") as caught:
            copy.complete()
    assert caught.value.code == "did_not_come_up"
    copy.go_back()
    assert copy.record["status"] == "error"


def test_a_guest_that_goes_off_after_it_has_written_stays_where_it_is(copy: Copy, monkeypatch: pytest.MonkeyPatch) -> None:
    def watch(domain: libvirt.virDomain, **options: Any) -> dict[str, Any]:
        booted.wait_for(lambda: _run_evidence.written(copy.record) is not None)
        domain.destroy()
        return {}

    with monkeypatch.context() as patch:
        patch.setattr(_power, "watch", watch)
        with pytest.raises(KvmfleetError, match="may have written"):
            copy.complete()
    assert copy.has_run == "it was started there"


def test_a_guest_that_came_up_paused_did_not_come_up(copy: Copy, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(_power, "watch", lambda domain, **options: domain.suspend() or {})
        with pytest.raises(KvmfleetError, match=r"paused \(by a user\)"):
            copy.complete()


def test_one_that_was_started_in_place_on_its_old_disks_has_not_run_on_the_layers(
    qemu: libvirt.virConnect, journal: Journal, web1: libvirt.virDomain, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = Copy("in_place", qemu, journal, web1, images)
    interrupted(copy, monkeypatch, _in_place._defining, "define")
    booted.start(copy.domain)
    assert copy.has_run is None
    copy.go_back()
    assert (copy.record["status"], copy.domain.isActive()) == ("error", True)


def test_opening_an_image_its_owner_and_its_label_are_no_write(images: Path, qemu: libvirt.virConnect) -> None:
    path = booted.write(images / "web1.raw")
    before = _run_evidence.stamps([path])
    domain = qemu.defineXML(booted.definition("web1", {"vda": (path, "raw")}))
    domain.createWithFlags(libvirt.VIR_DOMAIN_START_PAUSED)
    domain.destroy()
    os.chown(path, 1, 1)
    assert _run_evidence.stamps([path]) == before


def test_a_revert_does_not_take_a_disk_from_under_a_snapshot(
    qemu: libvirt.virConnect, journal: Journal, web1: libvirt.virDomain, images: Path, tmp_path: Path
) -> None:
    """One that a backup has laid over it at the destination, and will merge."""
    copy = Copy("destination", qemu, journal, web1, images)
    copy.complete()
    over = tmp_path / "web1.nightly"
    disk = f"<disk name='vda' snapshot='external' type='file'><driver type='qcow2'/><source file='{over}'/></disk>"
    flags = libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_DISK_ONLY | libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_NO_METADATA
    copy.domain.snapshotCreateXML(f"<domainsnapshot><name>nightly</name><disks>{disk}</disks></domainsnapshot>", flags)
    with pytest.raises(KvmfleetError, match=f"{over}.*--base {copy.path}") as caught:
        _withdrawing.undefine(qemu, journal, copy.record, CUT)
    assert caught.value.code == "disk_covered"
    assert (copy.record["status"], copy.domain.isActive(), os.path.exists(copy.path)) == ("finished", True, True)
    copy.domain.destroy()
