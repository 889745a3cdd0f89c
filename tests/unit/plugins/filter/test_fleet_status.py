# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any

import pytest
from ansible.errors import AnsibleFilterError

from ansible_collections.kvmfleet.compute.plugins.filter import fleet_status as plugin
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.planning.status import fleet_status

NOW = 1795450000.0
DOWN = {"host": "kvm3", "availability_zone": "south", "up": False, "down_reason": "Failed to connect:\nConnection timed out"}


def host(name: str, *migrations: dict[str, Any], **changes: Any) -> dict[str, Any]:
    state = {"host": name, "now": NOW, "up": True, "enabled": True, "num_instances": 1, "domains": [], "migrations": list(migrations)}
    capacity = {"vcpus": 8, "vcpus_used": 1, "memory_mb": 16384, "memory_mb_used": 1280, "local_gb": 200.0, "local_gb_used": 21.04}
    state["availability_zone"] = "north"
    return {**state, **capacity, **changes}


def record(role: str, **changes: Any) -> dict[str, Any]:
    parties = {"source_host": "kvm1", "destination_host": "kvm2", "instance_name": "web1", "instance_uuid": "u1"}
    progress = {"status": "finished", "step": "finished", "updated_at": NOW - 60, "lease_until": NOW - 30, "migration_type": "resize"}
    return {"uuid": "m1", "role": role, "was_running": True, "old_flavor": {}, "new_flavor": {}, **parties, **progress, **changes}


def migration_line(*hosts: dict[str, Any]) -> str:
    return fleet_status(list(hosts)).split("\n\n")[1].splitlines()[1]


def test_hosts_and_no_migrations():
    hosts = [host("kvm1"), host("kvm10", availability_zone=None, enabled=False, vcpus_used=16), DOWN]
    assert fleet_status(hosts).splitlines() == [
        "host   zone   vCPUs  RAM MiB     disk GiB    guests  state",
        "kvm1   north  1/8    1280/16384  21.0/200.0  1       up",
        "kvm10  -      16/8   1280/16384  21.0/200.0  1       disabled",
        "kvm3   south  -      -           -           -       down: Failed to connect: Connection timed out",
        "",
        "No open migrations.",
    ]


def test_finished_migration_waits_for_the_user():
    text = fleet_status([host("kvm1", record("source")), host("kvm2", record("destination", updated_at=NOW - 65))])
    assert text.split("\n\n")[1].splitlines() == [
        "instance  type    status    step      from -> to    since (UTC)          waits for",
        "web1      resize  finished  finished  kvm1 -> kvm2  2026-11-23 16:05:40  confirm or revert",
    ]


def test_migration_at_work_is_told_from_an_interrupted_one():
    working = {"status": "migrating", "step": "stopping"}
    source = record("source", **working, lease_until=NOW + 5)
    assert migration_line(host("kvm1", source), host("kvm2")).endswith("kvm1 -> kvm2  2026-11-23 16:05:40  the run that works on it")
    abandoned = migration_line(host("kvm1", record("source", **working)), host("kvm2"))
    assert abandoned.endswith("recover (back: it was interrupted at step stopping, when the source copy was not sealed yet)")


def test_a_running_copy_is_shown_whatever_its_lease_and_on_whichever_record():
    progress = {"percent": 48.4, "bytes_total": 512 * 2**20, "rate": 40 * 2**20, "eta": 6.6}
    records = {"status": "migrating", "step": "sealed"}, {"status": "migrating", "step": "receiving", "updated_at": NOW - 65, "progress": progress}
    line = migration_line(host("kvm1", record("source", **records[0])), host("kvm2", record("destination", **records[1])))
    assert line.endswith("the copy: 48 % of 512 MiB, 40.0 MiB/s, 7 s left")
    progress.update(rate=0, eta=None)
    line = migration_line(host("kvm1", record("source", **records[0])), host("kvm2", record("destination", **records[1])))
    assert line.endswith("the copy: 48 % of 512 MiB, 0 KiB/s")


def test_sealed_source_waits_for_its_destination():
    line = migration_line(host("kvm1", record("source", status="migrating", step="sealed", destination_host="kvm3")), DOWN)
    assert "  kvm1 -> kvm3  " in line
    assert "Connection timed out): the guest may run there, so nothing is started here until it answers" in line


def test_resize_in_place_and_undecided_destination():
    assert "  kvm1 in place  " in migration_line(host("kvm1", record("in_place", destination_host=None)))
    assert "  kvm1 -> undecided  " in migration_line(host("kvm1", record("source", status="pre-migrating", step="begun", destination_host=None)))


def test_a_lease_is_judged_by_the_clock_of_the_host_that_gave_it():
    """Whatever the controller's clock says."""
    working = {"status": "migrating", "step": "stopping"}
    for now in (100.0, NOW, 2 * NOW):
        source = record("source", **working, updated_at=now - 60, lease_until=now + 5)
        assert migration_line(host("kvm1", source, now=now), host("kvm2", now=5.0)).endswith("the run that works on it")
        source["lease_until"] = now - 5
        assert "recover (back" in migration_line(host("kvm1", source, now=now), host("kvm2", now=2 * NOW))


def test_the_end_that_was_written_last_is_shown_by_its_own_clock():
    """kvm2 is an hour behind: its record is the later one all the same."""
    behind = record("destination", status="migrating", step="copied", updated_at=NOW - 3600 - 5)
    line = migration_line(host("kvm1", record("source", status="migrating", step="sealed")), host("kvm2", behind, now=NOW - 3600))
    assert "  copied  " in line


def test_a_clock_that_was_set_back_is_said():
    line = migration_line(host("kvm1", record("source")), host("kvm2", record("destination"), now=NOW - 3600))
    assert line.endswith("confirm or revert (the clock of kvm2 was set back: its journal has a time that comes in 3540 s)")


def test_fleet_without_hosts_is_an_error():
    with pytest.raises(AnsibleFilterError, match="no host in group 'compute'"):
        plugin.fleet_status([])
