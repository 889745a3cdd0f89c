# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The host's own record of its maintenance: one run acts, no claim gets in, and moves of a drain are followed."""

from __future__ import annotations

import itertools
import time
from typing import Any

import pytest

from ansible_collections.kvmfleet.compute.plugins.module_utils._journal import maintenance as _maintenance
from ansible_collections.kvmfleet.compute.plugins.module_utils._journal.maintenance import Wanted
from ansible_collections.kvmfleet.compute.plugins.module_utils._journal.records import Journal
from ansible_collections.kvmfleet.compute.plugins.module_utils._journal.state_dir import StateDir
from ansible_collections.kvmfleet.compute.plugins.module_utils._rules.errors import KvmfleetError

ANN = {"user": "ann", "job": "12", "schedule": ""}
PART = {"kind": "drain", "uuid": "d-1", "host": "kvm1", "order": 1, "run": "run-1"}


def bring(state: StateDir, wanted: str, owner: str = "run-1", **more: Any) -> tuple[dict[str, Any], bool]:
    asked = {"uuid": "d-1", "owner": owner, "by": ANN, "reason": "new memory", **more}
    is_at_work = asked.pop("is_at_work", lambda uuid: False)
    _before, after, changed = _maintenance.change(state, Wanted(state=wanted, **asked), is_at_work=is_at_work)
    return after, changed


def drained(state: StateDir, **more: Any) -> dict[str, Any]:
    return bring(state, "draining", guests={"i-1": {"instance": "web1", "class": "move", "destination": "kvm2", "order": 1}}, **more)[0]


def code_of(call: Any, *args: Any, **kwargs: Any) -> str:
    with pytest.raises(KvmfleetError) as caught:
        call(*args, **kwargs)
    return caught.value.code


def begun(journal: Journal, **more: Any) -> dict[str, Any]:
    record = {"uuid": "m-1", "owner": "run-9", "role": "source", "instance_uuid": "i-1", "instance_name": "web1", "source_host": "kvm1"}
    return journal.begin({**record, "destination_host": None, "disks": [], "part_of": PART, **more})


def test_a_host_without_a_record_is_in_service(state: StateDir) -> None:
    assert (_maintenance.read(state), _maintenance.in_force(state), _maintenance.refusal(state, None)) == (None, None, None)


def test_a_drain_needs_a_reason_and_says_it_to_everybody(state: StateDir) -> None:
    assert code_of(bring, state, "draining", reason=None) == "reason_missing"
    assert _maintenance.read(state) is None
    drained(state)
    assert _maintenance.refusal(state, None) == "this host is draining by ann, job 12: new memory"


def test_the_same_again_changes_nothing_but_the_lease(state: StateDir) -> None:
    first = drained(state)
    time.sleep(0.01)
    again, changed = bring(state, "draining", uuid="another")
    assert not changed
    assert {**again, "lease_until": 0} == {**first, "lease_until": 0, "schema_version": 1}
    assert again["lease_until"] > first["lease_until"]


def test_every_state_but_in_service_keeps_guests_out(state: StateDir) -> None:
    for wanted in ("draining", "paused", "draining", "evacuated", "empty", "restoring"):
        bring(state, wanted)
        assert _maintenance.refusal(state, None) == f"this host is {wanted} by ann, job 12: new memory"
        assert _maintenance.refusal(state, PART) is not None
    bring(state, "in_service")
    assert _maintenance.refusal(state, None) is None


def test_only_its_own_restore_brings_guests_to_a_host_that_is_restored(state: StateDir) -> None:
    drained(state)
    home = {**PART, "kind": "restore"}
    assert _maintenance.refusal(state, home) is not None
    bring(state, "restoring")
    assert _maintenance.refusal(state, home) is None
    assert _maintenance.refusal(state, {**home, "uuid": "d-2"}) is not None


@pytest.mark.parametrize(("before", "wanted"), list(itertools.product(_maintenance.NEXT, repeat=2)))
def test_states_follow_one_another_as_the_table_has_it(state: StateDir, before: str, wanted: str) -> None:
    state.write("host", "maintenance", {"uuid": "d-1", "state": before, "reason": "r", "owner": "run-1", "lease": 60.0, "lease_until": 0.0, "guests": {}})
    if wanted in _maintenance.NEXT[before]:
        assert bring(state, wanted)[0]["state"] == wanted
    else:
        assert code_of(bring, state, wanted) == "wrong_state"
        assert _maintenance.read(state)["state"] == before  # type: ignore[index]


def test_of_two_runs_one_acts_and_the_other_is_told_who_does(state: StateDir) -> None:
    drained(state)
    with pytest.raises(KvmfleetError, match="Another run is at work: this host is draining by ann, job 12: new memory") as caught:
        bring(state, "draining", owner="run-2", by={"user": "bob"})
    assert (caught.value.code, caught.value.details["by"]) == ("maintenance_alive", {"user": "ann", "job": "12"})
    assert _maintenance.read(state)["owner"] == "run-1"  # type: ignore[index]


def test_a_run_that_was_not_heard_of_for_its_lease_is_followed_by_another_one_which_goes_on_with_the_same_drain(state: StateDir) -> None:
    drained(state, lease=0.05)
    time.sleep(0.06)
    after, _changed = bring(state, "draining", owner="run-2", uuid="d-2", reason=None)
    assert (after["uuid"], after["owner"], after["reason"], list(after["guests"])) == ("d-1", "run-2", "new memory", ["i-1"])


def test_a_run_whose_move_is_at_work_is_alive_whatever_its_lease(state: StateDir) -> None:
    drained(state, lease=0.0)
    asked: list[str] = []
    assert code_of(bring, state, "draining", owner="run-2", is_at_work=lambda uuid: not asked.append(uuid)) == "maintenance_alive"
    assert asked == ["d-1"]


def test_a_lease_from_before_the_clock_was_set_back_holds_nobody_up(state: StateDir) -> None:
    after = drained(state)
    state.write("host", "maintenance", {**after, "lease_until": time.time() + 3600})
    assert bring(state, "draining", owner="run-2")[0]["owner"] == "run-2"


def test_the_rest_of_a_lease_is_waited_for_and_no_longer(state: StateDir, monkeypatch: pytest.MonkeyPatch) -> None:
    drained(state, lease=0.5)
    began = time.monotonic()
    _maintenance.await_turn(state, "run-2")
    assert time.monotonic() - began > 0.3
    bring(state, "draining", owner="run-2", release=True)
    monkeypatch.setattr(_maintenance.time, "sleep", lambda seconds: pytest.fail("nobody has to be waited for"))
    _maintenance.await_turn(state, "run-3")
    assert bring(state, "draining", owner="run-3")[0]["owner"] == "run-3"
    _maintenance.await_turn(state, "run-3")


def test_a_run_that_is_heard_of_meanwhile_is_not_waited_for_any_longer(state: StateDir, monkeypatch: pytest.MonkeyPatch) -> None:
    drained(state)
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        bring(state, "draining")

    monkeypatch.setattr(_maintenance.time, "sleep", sleep)
    _maintenance.await_turn(state, "run-2")
    assert len(slept) == 1
    assert code_of(bring, state, "draining", owner="run-2") == "maintenance_alive"


def test_anybody_pauses_and_the_run_that_acts_begins_nothing_more(state: StateDir) -> None:
    drained(state)
    _maintenance.require_part(state, PART)
    after, changed = bring(state, "paused", owner="run-2", by={"user": "bob"})
    assert (after["owner"], after["by"]["user"], after["history"][-1]["by"], changed) == ("run-1", "ann", {"user": "bob"}, True)
    assert code_of(_maintenance.require_part, state, PART) == "drain_paused"


def test_a_move_begins_only_for_the_run_that_acts_and_the_drain_that_goes_on(state: StateDir) -> None:
    assert code_of(_maintenance.require_part, state, PART) == "not_drained"
    drained(state)
    assert code_of(_maintenance.require_part, state, {**PART, "uuid": "d-2"}) == "not_drained"
    assert code_of(_maintenance.require_part, state, {**PART, "run": "run-2"}) == "maintenance_alive"
    _maintenance.require_part(state, None)
    bring(state, "evacuated")
    assert code_of(_maintenance.require_part, state, PART) == "not_drained"


def test_moves_of_a_drain_are_followed_and_renew_its_lease(state: StateDir) -> None:
    before, journal = drained(state), Journal(state)
    record = begun(journal)
    noted = _maintenance.read(state)
    assert noted is not None
    assert noted["guests"]["i-1"]["state"] == "moving"
    assert (noted["guests"]["i-1"]["migration"], noted["guests"]["i-1"]["destination"]) == ("m-1", "kvm2")
    assert noted["lease_until"] > before["lease_until"]
    journal.close(record, "error", error="the link broke")
    noted = _maintenance.read(state)
    assert noted is not None
    assert (noted["guests"]["i-1"]["state"], noted["guests"]["i-1"]["message"]) == ("undone", "the link broke")


def test_moves_of_nothing_or_of_another_drain_or_at_their_destination_are_not_followed(state: StateDir) -> None:
    before, journal = drained(state), Journal(state)
    for number, more in enumerate(({"part_of": None}, {"part_of": {**PART, "uuid": "d-2"}}, {"role": "destination"})):
        begun(journal, uuid=f"m-{number}", instance_uuid=f"i-{number + 2}", **more)
    assert _maintenance.read(state) == state.read("host", "maintenance") == {**before, "schema_version": 1}


def test_a_guest_that_is_brought_back_ends_that_a_host_is_evacuated(state: StateDir) -> None:
    drained(state)
    bring(state, "evacuated")
    _maintenance.came_back(state, {"instance_name": "web1", "uuid": "m-1"})
    after = _maintenance.in_force(state)
    assert after is not None
    assert (after["state"], after["history"][-1]["note"]) == ("draining", "web1 was brought back by its migration m-1")


def test_what_facts_tell_has_no_owner(state: StateDir) -> None:
    assert {"owner", "history"}.isdisjoint(_maintenance.told(drained(state)) or {})


def test_a_maintenance_that_has_ended_leaves_nothing_to_the_next_one(state: StateDir) -> None:
    drained(state)
    bring(state, "restoring")
    bring(state, "in_service")
    after, _changed = bring(state, "draining", uuid="d-2", owner="run-2", reason="new disks")
    assert (after["uuid"], after["reason"], after["guests"], len(after["history"])) == ("d-2", "new disks", {}, 1)


def test_the_record_of_a_newer_release_is_refused(state: StateDir) -> None:
    drained(state)
    path = state.file("host", "maintenance")
    with open(path, encoding="utf-8") as stream:
        text = stream.read()
    with open(path, "w", encoding="utf-8") as stream:
        stream.write(text.replace('"schema_version": 1', '"schema_version": 2'))
    assert code_of(_maintenance.refusal, state, None) == "schema_too_new"


def test_a_move_at_work_is_seen_by_its_lease_and_by_its_lock(state: StateDir) -> None:
    journal = Journal(state, lease=0.0)
    assert not journal.is_at_work("d-1")
    record = begun(journal)
    assert not journal.is_at_work("d-1")
    with state.lock(f"migration-{record['uuid']}"):
        assert journal.is_at_work("d-1")
        assert not journal.is_at_work("d-2")
    Journal(state, lease=30.0).renew(record)
    assert journal.is_at_work("d-1")
