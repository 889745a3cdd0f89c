# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The records of both hosts, put together to the history of one operation."""

from __future__ import annotations

from typing import Any

from ansible_collections.kvmfleet.compute.plugins.filter.migration_history import migration_history
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.planning.history import history, operations

NOW = 1795450000.0
ALICE, BOB = {"by": {"user": "alice", "job": "42"}, "reason": "CHG-7"}, {"by": {"user": "bob"}}


def record(role: str, status: str, *steps: tuple[float, str, dict[str, Any]], **changes: Any) -> dict[str, Any]:
    entries = [{"at": NOW + at, "status": status, "step": step, **more} for at, step, more in steps]
    parties = {"source_host": "kvm1", "destination_host": "kvm2", "instance_name": "web1", "instance_uuid": "i-1", "migration_type": "resize"}
    asked = {"requested_by": {"user": "alice", "job": "42"}, "reason": "CHG-7", "error": None}
    times = {"created_at": NOW + steps[0][0], "updated_at": NOW + steps[-1][0]}
    return {"uuid": "m-1", "role": role, "status": status, "history": entries, **parties, **asked, **times, **changes}


SOURCE = record("source", "confirmed", (0, "begun", ALICE), (5, "sealed", {}), (60, "confirmed", BOB), taken_over_by=BOB)
DESTINATION = record("destination", "confirmed", (1, "admitted", ALICE), (8, "finished", {}), (62, "confirmed", {"note": "source copy\nis gone"}))
JOURNALS = [{"host": "kvm1", "migrations": [SOURCE]}, {"host": "kvm2", "up": True, "migrations": [DESTINATION]}]


def test_both_ends_are_one_operation():
    (one,) = operations(reversed(JOURNALS))
    assert [(step["host"], step["step"]) for step in one["steps"]] == [
        ("kvm1", "begun"), ("kvm2", "admitted"), ("kvm1", "sealed"), ("kvm2", "finished"), ("kvm1", "confirmed"), ("kvm2", "confirmed"),
    ]  # fmt: skip
    assert (one["status"], one["began_at"], one["ended_at"]) == ("confirmed", NOW, NOW + 62)
    assert (one["requested_by"], one["reason"], one["in_place"], one["error"], one["forced"]) == ({"user": "alice", "job": "42"}, "CHG-7", False, None, None)


def test_an_operation_is_open_as_long_as_one_of_its_ends_is():
    open_end = {"host": "kvm2", "migrations": [record("destination", "confirming", (1, "admitted", {}), (62, "confirming", {}))]}
    (one,) = operations([JOURNALS[0], open_end])
    assert (one["status"], one["ended_at"]) == ("confirming", None)


def test_operations_come_in_the_order_in_which_they_began():
    earlier = record("in_place", "error", (-9, "begun", {}), uuid="m-0", destination_host="kvm1", requested_by={"user": "", "job": ""}, error="no\nroom")
    assert [one["migration_uuid"] for one in operations([*JOURNALS, {"host": "kvm1", "migrations": [earlier]}])] == ["m-1", "m-0"][::-1]
    assert history([{"host": "kvm1", "migrations": [earlier]}], detailed=True).splitlines()[:3] == [
        "began (UTC)          ended (UTC)          instance  type    from -> to     status  by  settled by  reason  migration_uuid",
        "2026-11-23 16:06:31  2026-11-23 16:06:31  web1      resize  kvm1 in place  error   -   -           CHG-7   m-0",
        "error: no room",
    ]


def test_the_text_tells_when_who_and_why():
    assert history(JOURNALS, detailed=True).splitlines() == [
        "began (UTC)          ended (UTC)          instance  type    from -> to    status     by             settled by  reason  migration_uuid",
        "2026-11-23 16:06:40  2026-11-23 16:07:42  web1      resize  kvm1 -> kvm2  confirmed  alice, job 42  bob         CHG-7   m-1",
        "  at (UTC)             host  status     step       note                 by             reason",
        "  2026-11-23 16:06:40  kvm1  confirmed  begun                           alice, job 42  CHG-7",
        "  2026-11-23 16:06:41  kvm2  confirmed  admitted                        alice, job 42  CHG-7",
        "  2026-11-23 16:06:45  kvm1  confirmed  sealed",
        "  2026-11-23 16:06:48  kvm2  confirmed  finished",
        "  2026-11-23 16:07:40  kvm1  confirmed  confirmed                       bob",
        "  2026-11-23 16:07:42  kvm2  confirmed  confirmed  source copy is gone",
    ]
    assert len(history(JOURNALS, detailed=False).splitlines()) == 2


def test_a_journal_that_was_not_read_is_named():
    away = {"host": "kvm3", "up": False, "down_reason": "no\nroute", "migrations": []}
    found = migration_history([away])
    assert found == {"operations": [], "text": "No operations.\n\nNot read: kvm3 (no route)."}


def test_a_schedule_and_a_workflow_are_named_where_there_is_no_user():
    """As AWX has it: a scheduled job has no user, and an approver is found through the workflow job."""
    nightly = {"user": "", "job": 48, "schedule": "nightly", "workflow_job": "47"}
    carol = {"by": {"user": "carol", "job": "49", "workflow_job": "47"}}
    confirmed = record("source", "confirmed", (0, "begun", {}), requested_by=nightly, taken_over_by=carol)
    (line,) = history([{"host": "kvm1", "migrations": [confirmed]}], detailed=False).splitlines()[1:]
    assert "  schedule nightly, job 48, workflow job 47  carol, job 49, workflow job 47  CHG-7" in line
