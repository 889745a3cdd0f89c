# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The journal: one open operation an instance, known transitions only, and one owner at a time."""

from __future__ import annotations

import json
import os
import stat
import threading
import time
from pathlib import Path

import pytest

from ansible_collections.kvmfleet.compute.plugins.module_utils._journal.records import (
    CLOSED,
    TRANSITIONS,
    Journal,
    copy_rates,
    failures_in_a_row,
    may_be_needed,
    public,
    require_same_boot,
    summary,
)
from ansible_collections.kvmfleet.compute.plugins.module_utils._journal.state_dir import SCHEMA_VERSION, StateDir
from ansible_collections.kvmfleet.compute.plugins.module_utils._rules.errors import KvmfleetError

UUID = "11111111-2222-3333-4444-555555555555"


def record(uuid=UUID, owner="run-1", instance="i-1"):
    return {
        "uuid": uuid,
        "owner": owner,
        "role": "source",
        "instance_uuid": instance,
        "instance_name": "web1",
        "source_host": "kvm1",
        "destination_host": None,
        "disks": [],
    }


@pytest.fixture
def journal(tmp_path):
    return Journal(StateDir(str(tmp_path / "state")), lease=30)


def record_file(journal):
    return Path(journal.state.path) / "migrations" / f"{UUID}.json"


def code_of(call, *args, **kwargs):
    with pytest.raises(KvmfleetError) as caught:
        call(*args, **kwargs)
    return caught.value.code


def test_begin_writes_a_private_record(journal):
    begun = journal.begin(record())
    path = record_file(journal)
    assert (begun["status"], begun["step"]) == ("pre-migrating", "begun")
    assert json.loads(path.read_text())["schema_version"] == SCHEMA_VERSION
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    assert stat.S_IMODE(os.stat(journal.state.path).st_mode) == 0o700


def test_an_instance_has_one_open_operation(journal):
    first = journal.begin(record())
    assert code_of(journal.begin, record(uuid="other")) == "operation_in_progress"
    journal.begin(record(uuid="another-instance", instance="i-2"))
    journal.close(first, "error")
    assert journal.begin(record(uuid="other"))["uuid"] == "other"


@pytest.mark.parametrize("before", sorted(TRANSITIONS))
@pytest.mark.parametrize("after", sorted(TRANSITIONS))
def test_only_known_transitions(journal, before, after):
    begun = journal.begin(record())
    begun["status"] = before
    if after in TRANSITIONS[before]:
        assert journal.update(begun, status=after)["status"] == after
    else:
        assert code_of(journal.update, begun, status=after) == "wrong_status"


def test_every_status_ends_in_a_closed_one():
    reachable = set(CLOSED)
    while True:
        more = {status for status, following in TRANSITIONS.items() if following & reachable} - reachable
        if not more:
            break
        reachable |= more
    assert reachable == set(TRANSITIONS)


def test_closing_drops_what_only_recovery_needed(journal):
    begun = journal.update(journal.begin(record()), private={"domain_xml": "<domain>secret</domain>"})
    assert "private" not in public(begun)
    closed = journal.close(begun, "error", error="why")
    assert "private" not in closed
    assert "secret" not in record_file(journal).read_text()
    assert [entry["status"] for entry in closed["history"]] == ["pre-migrating", "pre-migrating", "error"]
    assert "history" not in summary(closed)


def test_another_owner_is_refused(journal):
    journal.begin(record())
    assert code_of(lambda: journal.working(UUID, "run-2").__enter__()) == "not_owner"


def test_a_living_lease_is_not_taken(journal):
    journal.begin(record())
    assert code_of(journal.take_over, UUID, "run-2", timeout=0.2) == "operation_alive"
    assert journal.get(UUID)["owner"] == "run-1"


def test_an_expired_lease_is_taken_and_the_old_owner_is_out(tmp_path):
    journal = Journal(StateDir(str(tmp_path / "state")), lease=0.2)
    journal.begin(record())
    assert journal.take_over(UUID, "run-2", timeout=5)["owner"] == "run-2"
    assert code_of(lambda: journal.working(UUID, "run-1").__enter__()) == "not_owner"


def test_an_end_that_is_idle_is_told_from_one_that_was_waited_for(tmp_path):
    journal = Journal(StateDir(str(tmp_path / "state")), lease=2.0)
    journal.begin(record())
    assert code_of(journal.await_idle, UUID, "run-2", timeout=0.2) == "operation_alive"
    assert journal.await_idle(UUID, "run-2", timeout=10) is True
    assert journal.await_idle(UUID, "run-2", timeout=10) is False
    assert journal.get(UUID)["owner"] == "run-1"
    with journal.working(UUID, "run-1"):
        assert code_of(journal.await_idle, UUID, "run-2", timeout=0.2) == "locked"


def test_a_lease_from_before_the_clock_was_set_back_expires(tmp_path):
    journal = Journal(StateDir(str(tmp_path / "state")), lease=0.3)
    written = journal.begin(record())
    ahead = {key: written[key] + 3600 for key in ("lease_until", "updated_at")}
    journal.state.write("migrations", UUID, {**written, **ahead})
    assert code_of(journal.take_over, UUID, "run-2", timeout=0.1) == "operation_alive"
    assert journal.take_over(UUID, "run-2", timeout=5)["owner"] == "run-2"


def test_the_history_tells_who_began_and_who_took_over(journal):
    journal.begin(dict(record(), requested_by={"user": "alice", "job": ""}, reason="CHG-7"))
    taken = journal.take_over(UUID, "run-2", timeout=5, settled=True, by={"user": "bob", "job": "42"}, reason="approved")
    journal.update(taken, step="more")
    begun, taken_over, more = [{key: value for key, value in entry.items() if key != "at"} for entry in journal.get(UUID)["history"]]
    common = {"status": "pre-migrating", "step": "begun"}
    assert begun == {**common, "note": "begun", "by": {"user": "alice"}, "reason": "CHG-7"}
    assert taken_over == {**common, "note": "taken over", "by": {"user": "bob", "job": "42"}, "reason": "approved"}
    assert more == {**common, "step": "more"}
    assert journal.get(UUID)["taken_over_by"] == {"by": {"user": "bob", "job": "42"}, "reason": "approved"}


def test_a_run_that_spans_a_restart_of_the_host_has_to_take_over_before_it_starts_anything(journal):
    begun = journal.begin(record())
    require_same_boot(begun)
    journal.state.write("migrations", UUID, dict(begun, boot_id="earlier"))
    assert code_of(require_same_boot, journal.get(UUID)) == "host_restarted"
    require_same_boot(journal.take_over(UUID, "run-2", timeout=5, settled=True))


class TestWithoutALostHost:
    """What stays in the journal of the host that is left."""

    def test_who_gave_it_up_is_noted_first_and_once(self, journal):
        journal.begin(record())
        taken = journal.take_over(UUID, "run-2", timeout=5, settled=True, by={"user": "bob"}, reason="burnt")
        given_up = journal.give_up(taken, "kvm2")
        assert {key: value for key, value in given_up["forced"].items() if key != "at"} == {"lost_host": "kvm2", "by": {"user": "bob"}, "reason": "burnt"}
        assert given_up["history"][-1]["note"] == "kvm2 was given up as lost"
        assert journal.give_up(journal.get(UUID), "kvm2")["history"] == given_up["history"]

    def test_it_may_be_needed_until_the_host_was_seen_clean(self, journal):
        given_up = journal.give_up(journal.begin(record()), "kvm2")
        assert journal.release(UUID) is False
        closed = journal.close(given_up, "error")
        assert may_be_needed(closed)
        assert journal.release(UUID) is True
        released = journal.get(UUID)
        assert (may_be_needed(released), released["updated_at"], released["history"][-1]["note"]) == (False, closed["updated_at"], "kvm2 was seen clean")
        assert journal.release(UUID) is False


def test_a_settled_operation_is_taken_at_once(journal, monkeypatch):
    journal.begin(record())
    monkeypatch.setattr(time, "sleep", lambda _seconds: pytest.fail("it waits"))
    assert journal.take_over(UUID, "run-2", timeout=5, settled=True)["owner"] == "run-2"


def test_a_working_process_is_waited_for(tmp_path):
    journal = Journal(StateDir(str(tmp_path / "state")), lease=0)
    journal.begin(record())
    inside, leave = threading.Event(), threading.Event()

    def work():
        with journal.working(UUID, "run-1"):
            inside.set()
            leave.wait(10)

    worker = threading.Thread(target=work)
    worker.start()
    inside.wait(10)
    assert code_of(journal.take_over, UUID, "run-2", timeout=0.2) == "locked"
    leave.set()
    worker.join()
    assert journal.take_over(UUID, "run-2", timeout=5)["owner"] == "run-2"


@pytest.mark.parametrize(
    ("content", "code"),
    [
        ("", "record_unreadable"),
        ('{"schema_version": 1, "uuid"', "record_unreadable"),
        ("[]", "record_unreadable"),
        ('{"uuid": "x"}', "record_unreadable"),
        ('{"schema_version": "1"}', "record_unreadable"),
        ('{"schema_version": 99}', "schema_too_new"),
    ],
)
def test_a_torn_or_newer_record_is_refused_not_ignored(journal, content, code):
    journal.begin(record())
    record_file(journal).write_text(content)
    assert code_of(journal.get, UUID) == code
    assert code_of(journal.open_for, "i-1") == code


def test_unknown_migration(journal):
    assert code_of(journal.get, "nothing") == "unknown_migration"
    assert code_of(journal.get, "../../etc/passwd") == "invalid_name"


FAILED, FINISHED, CONFIRMED = ("migrating", "error"), ("migrating", "finished"), ("migrating", "finished", "confirming", "confirmed")


@pytest.mark.parametrize(
    ("operations", "failures"),
    [
        ([], 0),
        ([FAILED, FAILED], 2),
        ([FAILED, FINISHED], 0),
        ([FAILED, CONFIRMED, FAILED], 1),
        ([FAILED, FAILED, ("migrating",)], 2),
        ([FAILED, ("migrating", "finished", "reverting", "reverted")], 0),
    ],
)
def test_failures_count_until_the_next_success(journal, operations, failures):
    for number, statuses in enumerate(operations):
        done = journal.begin(dict(record(f"op-{number}", instance=f"i-{number}"), role="destination"))
        for status in statuses:
            done = journal.update(done, status=status)
    assert failures_in_a_row(journal.all()) == failures


def test_a_success_counts_when_it_came_not_when_it_was_confirmed(journal):
    kept = journal.begin(dict(record("kept", instance="i-1"), role="destination"))
    kept = journal.update(journal.update(kept, status="migrating"), status="finished")
    failed = journal.begin(dict(record("failed", instance="i-2"), role="in_place"))
    journal.close(failed, "error")
    journal.close(journal.update(kept, status="confirming"), "confirmed")
    assert failures_in_a_row(journal.all()) == 1


def test_the_failures_of_a_source_are_not_its_own(journal):
    journal.close(journal.begin(record()), "error")
    assert failures_in_a_row(journal.all()) == 0


def test_a_copy_that_its_own_limit_held_up_says_nothing_of_the_network():
    """The next one may have no limit. One that was far slower than its limit was held up by something else."""
    copied = {"source_host": "kvm1", "bytes_transferred": 64 * 2**20}
    free = {**copied, "created_at": 1.0, "copy_rate": 90 * 2**20, "copy_limit": 0}
    limited = {**copied, "created_at": 2.0, "copy_rate": 480 * 2**10, "copy_limit": 500 * 2**10}
    slow = {**copied, "created_at": 3.0, "copy_rate": 2 * 2**20, "copy_limit": 100 * 2**20}
    before = {**copied, "created_at": 0.0, "copy_rate": 7 * 2**20}  # by a release that noted no limit
    assert copy_rates([limited]) == {}
    assert copy_rates([free, limited]) == {"kvm1": 90 * 2**20}
    assert copy_rates([free, limited, slow]) == {"kvm1": 2 * 2**20}
    assert copy_rates([before, limited]) == {"kvm1": 7 * 2**20}
