# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A programme while it is carried out, and what is told of it: who may begin, one line a guest, the table, the sentence and the artifact."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ansible_collections.kvmfleet.compute.plugins.filter.fleet_report import fleet_report
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.fleet import progress
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.validation import ValidationError
from ansible_collections.kvmfleet.compute.tests.unit.plugins.plugin_utils.fleet.fleets import Made, host, uuid_of

MOVE = {"order": 3, "instance": "web17", "host": "kvm1", "destination": "kvm4"}


def drain(*names: str, **options: Any) -> Any:
    made = Made(*(host(f"kvm{number}") for number in range(1, 7)))
    for number, name in enumerate(names):
        made.guest("kvm1", name, disk=number + 1)
    told = made.plan(**options)
    assert told["fits"], told["lines"]
    return told


def test_one_line_a_guest_in_the_form_that_people_know() -> None:
    now = progress.counts(["moving", "moving", "waiting", "moved", "planned"])
    line = progress.line(MOVE, 50, "moved", now, {"downtime_seconds": 2.91, "bytes": int(1.2 * 1024**3)})
    assert line == "[ 3/50] web17 kvm1 -> kvm4 moved, down 2.9 s, 1.2 GiB (2 running, 1 waiting, 0 failed)"
    now = progress.counts(["moving", "undone", "open"])
    assert progress.line(MOVE, 9, "moving", now) == "[3/9] web17 kvm1 -> kvm4 begins (1 running, 0 waiting, 2 failed)"
    failed = progress.line(MOVE, 9, "undone", now, {"message": "claim_refused: kvm4 is full.\nIt was undone."})
    assert failed == "[3/9] web17 kvm1 -> kvm4 failed and is as before, claim_refused: kvm4 is full (1 running, 0 waiting, 2 failed)"
    with pytest.raises(ValidationError, match="state: expected one of"):
        progress.counts(["gone"])


def test_nothing_begins_before_the_canary_runs_again() -> None:
    told = drain("small", "big", "huge")
    uuids = [move["uuid"] for move in told["moves"]]
    asked = {"moves": told["moves"], "uuid": uuids[1]}
    assert progress.may_begin(told["moves"], {}, uuids[0]).do == "begin"
    assert progress.may_begin(states={uuids[0]: "moving"}, **asked) == ("wait", "small goes first")
    assert progress.may_begin(states={uuids[0]: "moved"}, **asked).do == "begin"
    assert progress.may_begin(states={uuids[0]: "undone"}, **asked, max_fail=0).do == "skip"


def test_after_so_many_failures_nothing_new_begins() -> None:
    told = drain("a", "b", "c", canary=0)
    first, second, third = (move["uuid"] for move in told["moves"])
    assert progress.may_begin(told["moves"], {first: "undone"}, third, max_fail=2).do == "begin"
    verdict = progress.may_begin(told["moves"], {first: "undone", second: "open"}, third, max_fail=2)
    assert verdict.do == "skip"
    assert "nothing new begins after 2 (max_fail)" in verdict.reason
    assert progress.may_begin(told["moves"], {first: "undone", second: "undone"}, third, max_fail=0).do == "begin"
    assert progress.may_begin(told["moves"], {}, third, paused=True) == ("skip", "it is paused")


def test_nothing_begins_when_its_window_has_closed_meanwhile() -> None:
    told = drain("a", canary=0, policies={"a": {"window": "00:00-24:00"}})
    (move,) = told["moves"]
    assert progress.may_begin(told["moves"], {}, move["uuid"], now=move["until"] - 1).do == "begin"
    assert progress.may_begin(told["moves"], {}, move["uuid"], now=move["until"]).do == "skip"
    assert drain("a")["moves"][0]["until"] is None


def test_a_follower_waits_until_the_one_before_runs_again_as_before_if_need_be() -> None:
    told = drain("db1", "web1", canary=0, policies={"web1": {"after": "db1"}})
    asked = {"moves": told["moves"], "uuid": uuid_of("web1"), "max_fail": 0}
    assert [progress.may_begin(states={uuid_of("db1"): state}, **asked).do for state in ("planned", "moving", "moved", "undone", "open")] == [
        "wait", "wait", "begin", "begin", "skip",
    ]  # fmt: skip


def test_who_was_to_get_room_waits_until_that_is_confirmed() -> None:
    made = Made(host("kvm1"), host("kvm2", 8), host("kvm3", 8)).guest("kvm1", "db1", ram=8).guest("kvm2", "small").guest("kvm3", "other", ram=3)
    told = made.plan(eject=True)
    asked = {"moves": told["moves"], "uuid": uuid_of("db1"), "max_fail": 0}
    assert [progress.may_begin(states={uuid_of("small"): state}, **asked).do for state in ("moving", "moved", "confirmed", "undone", "skipped")] == [
        "wait", "wait", "begin", "skip", "skip",
    ]  # fmt: skip


def reported(told: Any, results: Any, **more: Any) -> Any:
    answer = fleet_report(told, results, **more)
    assert json.loads(json.dumps(answer)) == answer
    assert answer["error"] is None
    return answer


def test_the_report_of_a_drain_says_what_may_be_done_with_the_host() -> None:
    told = drain("web1", "web2", "gpu1", "backup", "late", policies={"gpu1": "stop", "backup": "leave", "late": {"approval": True}})
    results = {uuid_of("web1"): {"state": "moved", "downtime_seconds": 2.9, "bytes": 10}, uuid_of("web2"): {"state": "confirmed", "downtime_seconds": 4}}
    answer = reported(told, results, state="evacuated", reason="new memory", drain="d-1")
    assert answer["message"] == (
        "kvm1 is evacuated: 2 moved, 1 stopped (gpu1), 1 left (backup), 1 waiting (late). It may be rebooted. "
        "It is not empty: 1 sealed copy waits for confirm (256 MiB)."
    )
    artifact = answer["artifact"]
    assert {key: artifact[key] for key in ("verb", "hosts", "reason", "state", "drain", "complete")} == {
        "verb": "drain", "hosts": ["kvm1"], "reason": "new memory", "state": "evacuated", "drain": "d-1", "complete": False,
    }  # fmt: skip
    assert (artifact["totals"]["moved"], artifact["totals"]["worst_downtime_seconds"], artifact["totals"]["downtime_seconds"]) == (2, 4, 6.9)
    assert artifact["guests"]["web1"]["downtime_seconds"] == 2.9
    assert len(answer["lines"]) == 7


def test_guests_that_were_never_begun_are_told_and_the_host_stays_closed() -> None:
    told = drain("web1", "web2")
    answer = reported(told, {uuid_of("web1"): {"state": "undone", "message": "no space\nleft"}})
    assert answer["message"].startswith("kvm1 is draining: 1 failed (web1), 1 never begun (web2). It stays closed")
    assert (answer["complete"], answer["artifact"]["totals"]["failed"], answer["artifact"]["totals"]["skipped"]) == (False, 1, 1)


def test_an_empty_host_may_be_wiped() -> None:
    assert reported(drain("web1"), {uuid_of("web1"): {"state": "confirmed"}}, state="empty")["message"] == "kvm1 is empty: 1 moved. It may be wiped."


def test_the_report_of_a_restore() -> None:
    made = Made(host("kvm1", 8), host("kvm2", 16))
    noted = {uuid_of("gpu1"): {"class": "stop", "power_state": "running"}}
    made.host("kvm1")["maintenance"] = {"state": "evacuated", "guests": noted}
    made.guest("kvm1", "gpu1", running=False)
    for name in ("web1", "web2", "web3"):
        made.guest("kvm2", name, entry={"origin": {"host": "kvm1"}})
    told = made.restore(back=["web1", "web2"])
    results = {uuid_of("web1"): {"state": "moved"}, uuid_of("web2"): {"state": "undone"}}
    assert reported(told, results, verb="restore", state="in_service")["message"] == (
        "kvm1 is in service: 1 started (gpu1), 1 came home, 1 failed (web2). 2 guests that came from here stay where they are."
    )


def test_a_plan_that_is_refused_leaves_an_artifact_too_and_a_large_one_is_cut() -> None:
    made = Made(host("kvm1", 64), host("kvm2", 1)).guest("kvm1", "db1", ram=8)
    answer = reported(made.plan(), None)
    assert (answer["complete"], answer["artifact"]["refused"][0]["code"], answer["lines"][0]) == (
        False, "no_valid_host", "kvm1 cannot be drained; nothing was changed.",
    )  # fmt: skip
    made = Made(host("kvm1", 200), host("kvm2", 200))
    for number in range(120):
        made.guest("kvm1", f"vm{number}")
    told = made.plan()
    assert len(reported(told, None)["artifact"]["moves"]) == 120
    results = {move["uuid"]: {"state": "moved", "downtime_seconds": 1.0} for move in told["moves"]}
    guests = reported(told, results, state="evacuated")["artifact"]["guests"]
    assert (len(guests), guests["vm7"]) == (120, {"state": "moved", "destination": "kvm2"})


def test_a_drain_of_fifty_guests_is_told_in_less_than_two_hundred_lines() -> None:
    made = Made(*(host(f"kvm{number}", 200) for number in range(1, 5)))
    for number in range(50):
        made.guest("kvm1", f"vm{number}")
    told = made.plan()
    results = {move["uuid"]: {"state": "moved", "downtime_seconds": 1.0} for move in told["moves"]}
    lines = len(told["lines"]) + 2 * 50 + len(reported(told, results, state="evacuated")["lines"])
    assert lines < 210


def test_a_verb_that_is_none_is_refused() -> None:
    assert fleet_report(drain("web1"), {}, verb="empty")["error"]["code"] == "invalid_value"
