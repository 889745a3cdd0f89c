# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Somebody does something to a guest in the moment in which it is sealed; with real guests."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import libvirt
import pytest

from ansible_collections.kvmfleet.compute.plugins.module_utils._journal.records import Journal
from ansible_collections.kvmfleet.compute.plugins.module_utils._journal.state_dir import StateDir
from ansible_collections.kvmfleet.compute.plugins.module_utils._libvirt import definitions as _definitions
from ansible_collections.kvmfleet.compute.plugins.module_utils._operation import sealing as _sealing
from ansible_collections.kvmfleet.compute.plugins.module_utils._rules.errors import KvmfleetError
from ansible_collections.kvmfleet.compute.plugins.module_utils._storage.disk_use import DiskUses
from ansible_collections.kvmfleet.compute.tests.unit.plugins.module_utils import booted


class Guest:
    """It was stopped, and is about to be sealed."""

    def __init__(self, qemu: libvirt.virConnect, state: StateDir, images: Path) -> None:
        self.qemu, self.journal = qemu, Journal(state)
        self.domain = qemu.defineXML(booted.definition("web1", {"vda": (booted.write(images / "web1.raw"), "raw")}))
        record = booted.record_of(self.journal, self.domain, "source", images)
        self.record = self.journal.update(record, status="migrating", step="stopped", was_running=True)

    def seal(self) -> dict[str, Any]:
        return _sealing._seal(self.qemu, self.journal, self.record, DiskUses(self.qemu, self.journal.state))

    @property
    def path(self) -> str:
        return self.record["disks"][0]["path"]

    def restore(self) -> None:
        _sealing.restore(self.qemu, self.journal, self.journal.get(self.record["uuid"]), status="error")


@pytest.fixture
def guest(qemu: libvirt.virConnect, state: StateDir, images: Path) -> Guest:
    return Guest(qemu, state, images)


def before(monkeypatch: pytest.MonkeyPatch, where: ModuleType, name: str, act: Callable[[], object]) -> None:
    """Let somebody act right before a call to libvirt."""
    real = getattr(where, name)

    def first_somebody(*args: Any) -> Any:
        monkeypatch.setattr(where, name, real)
        act()
        return real(*args)

    monkeypatch.setattr(where, name, first_somebody)


def test_a_guest_that_is_started_as_it_is_undefined_goes_on_with_its_disks_and_its_definition(guest: Guest, monkeypatch: pytest.MonkeyPatch) -> None:
    before(monkeypatch, _definitions, "undefine_keeping_everything", guest.domain.create)
    with pytest.raises(KvmfleetError, match="was started by something else") as caught:
        guest.seal()
    assert caught.value.code == "not_off"
    assert os.path.exists(guest.path)
    guest.restore()
    (domain,) = guest.qemu.listAllDomains()
    assert (bool(domain.isActive()), bool(domain.isPersistent())) == (True, True)
    domain.destroy()


def test_a_guest_that_is_changed_as_it_is_archived_keeps_the_change(guest: Guest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as a snapshot over its disk, whose file would lose what it lies on."""
    over = f"{guest.path}.nightly"
    libvirt_xml = _definitions.inactive_xml(guest.domain)

    def snapshot() -> None:
        guest.qemu.defineXML(libvirt_xml.replace(guest.path, over))

    update = guest.journal.update

    def archived(record: dict[str, Any], **changes: Any) -> dict[str, Any]:
        if changes.get("step") == "sealing":
            snapshot()
        return update(record, **changes)

    monkeypatch.setattr(guest.journal, "update", archived)
    with pytest.raises(KvmfleetError) as caught:
        guest.seal()
    assert caught.value.code == "definition_changed"
    assert os.path.exists(guest.path)
    assert over in _definitions.inactive_xml(guest.qemu.lookupByName("web1"))
