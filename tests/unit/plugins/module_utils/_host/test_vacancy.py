# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A host is evacuated, or empty, if its libvirt and its journal say so."""

from __future__ import annotations

from typing import Any

import libvirt
import pytest

from ansible_collections.kvmfleet.compute.plugins.module_utils._host import vacancy as _vacancy
from ansible_collections.kvmfleet.compute.plugins.module_utils._journal.records import Journal
from ansible_collections.kvmfleet.compute.plugins.module_utils._journal.state_dir import StateDir
from ansible_collections.kvmfleet.compute.plugins.module_utils._rules.errors import KvmfleetError


def begun(journal: Journal, **more: Any) -> dict[str, Any]:
    record = {"uuid": "m-1", "owner": "run-1", "role": "source", "instance_uuid": "i-1", "instance_name": "web1", "source_host": "kvm1", "disks": []}
    return journal.begin({**record, "destination_host": None, **more})


def refused(call: Any, *args: Any) -> KvmfleetError:
    with pytest.raises(KvmfleetError) as caught:
        call(*args)
    return caught.value


def test_a_guest_that_is_off_could_start_and_keeps_a_host_from_being_evacuated(qemu: libvirt.virConnect, state: StateDir, guest: Any) -> None:
    guest("db1", {})
    web = guest("web1", {}, running=True)
    error = refused(_vacancy.require_evacuated, qemu, Journal(state))
    assert (error.code, error.details["guests"], error.message) == ("not_evacuated", ["db1", "web1"], "This host is not evacuated: db1, web1 can start here.")
    assert refused(_vacancy.require_evacuated, qemu, Journal(state), ["db1"]).details["guests"] == ["web1"]
    _vacancy.require_evacuated(qemu, Journal(state), ["db1", web.UUIDString()])


@pytest.mark.parametrize("role", ["source", "destination"])
def test_what_is_on_its_way_keeps_a_host_from_being_evacuated_and_what_waits_for_confirm_does_not(
    qemu: libvirt.virConnect, state: StateDir, role: str
) -> None:
    journal = Journal(state)
    record = begun(journal, role=role)
    assert refused(_vacancy.require_evacuated, qemu, journal).details["operations"] == ["m-1"]
    journal.update(journal.update(record, status="migrating"), status="finished")
    _vacancy.require_evacuated(qemu, journal)
    error = refused(_vacancy.require_empty, qemu, journal)
    assert (error.code, error.message) == ("not_empty", "This host is not empty: the operation on web1 (finished) is not confirmed, reverted or recovered.")


def test_a_host_is_empty_once_nothing_refers_to_it(qemu: libvirt.virConnect, state: StateDir, guest: Any) -> None:
    journal = Journal(state)
    domain = guest("web1", {})
    assert refused(_vacancy.require_empty, qemu, journal).details["guests"] == ["web1"]
    domain.undefine()
    state.write("claims", "m-9", {"migration_uuid": "m-9", "instance_uuid": "i-9", "instance_name": "web9"})
    assert refused(_vacancy.require_empty, qemu, journal).details["operations"] == ["m-9"]
    state.remove("claims", "m-9")
    record = begun(journal)
    journal.close(record, "error")
    _vacancy.require_empty(qemu, journal)
    journal.state.write("migrations", "m-1", {**journal.get("m-1"), "forced": {"lost_host": "kvm2"}})
    assert refused(_vacancy.require_empty, qemu, journal).details["operations"] == ["m-1"]
