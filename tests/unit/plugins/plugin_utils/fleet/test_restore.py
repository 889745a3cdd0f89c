# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A host that comes back into service: what was stopped is started, who came from there may go home, and whoever cannot stays and is named."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.kvmfleet.compute.tests.unit.plugins.plugin_utils.fleet.fleets import Made, host, uuid_of

ORIGIN = {"host": "kvm1", "drain": "d", "at": "2026-11-30T12:00:00Z"}
AWAY = {"origin": ORIGIN}


def drained(guests: dict[str, dict[str, Any]] | None = None, *rams: float) -> Made:
    """kvm1 is evacuated, by a record that knows these guests."""
    made = Made(*(host(f"kvm{number}", ram) for number, ram in enumerate(rams or (8, 16, 16), 1)))
    noted = {uuid_of(name): {"instance": name, **entry} for name, entry in (guests or {}).items()}
    made.host("kvm1")["maintenance"] = {"uuid": "d", "state": "evacuated", "reason": "new memory", "by": "ann", "guests": noted}
    return made


def by_name(listed: Any) -> dict[str, Any]:
    return {each["instance"]: each for each in listed}


def test_what_the_drain_stopped_is_started_and_nothing_else() -> None:
    noted = {
        "gpu1": {"class": "stop", "power_state": "running"},
        "old1": {"class": "stop", "power_state": "shutoff"},
        "kept": {"class": "leave", "power_state": "running"},
        "up1": {"class": "stop", "power_state": "running"},
    }
    made = drained(noted).guest("kvm1", "gpu1", running=False).guest("kvm1", "old1", running=False).guest("kvm1", "kept", running=False).guest("kvm1", "up1")
    told = made.restore(back="none")
    assert list(by_name(told["starts"])) == ["gpu1"]
    assert told["message"] == "kvm1 is put into service again: 1 guest that the drain stopped is started."


def test_nobody_goes_home_unless_asked() -> None:
    told = drained().guest("kvm2", "web1", entry=AWAY).restore(back="none")
    assert (told["moves"], by_name(told["stays"])["web1"]["code"], by_name(told["stays"])["web1"]["option"]) == ([], "not_asked", "back=web1")


@pytest.mark.parametrize(("back", "home"), [("all", ["web1", "web2"]), (["web2"], ["web2"]), ("web1,web2", ["web1", "web2"]), ("w*2", ["web2"])])
def test_who_came_from_here_goes_home_wherever_it_is_now(back: Any, home: list[str]) -> None:
    made = drained().guest("kvm2", "web1", entry=AWAY).guest("kvm3", "web2", entry=AWAY).guest("kvm2", "other")
    made.guest("kvm2", "elsewhere", entry={"origin": {**ORIGIN, "host": "kvm3"}})
    told = made.restore(back=back)
    assert sorted(by_name(told["moves"])) == home
    assert {move["destination"] for move in told["moves"]} == {"kvm1"}
    assert {move["how"] for move in told["moves"]} == {"move"}


def test_the_origin_may_be_told_by_host_as_well() -> None:
    made = drained().guest("kvm2", "web1")
    made.host("kvm2")["origins"] = {uuid_of("web1"): ORIGIN}
    assert list(by_name(made.restore()["moves"])) == ["web1"]


def test_a_host_that_lost_its_journal_gets_its_guests_back_all_the_same() -> None:
    made = drained().guest("kvm2", "web1", entry=AWAY)
    made.host("kvm1")["maintenance"] = None
    assert list(by_name(made.restore()["moves"])) == ["web1"]


def test_a_guest_that_never_ran_goes_home_by_revert_and_needs_no_room() -> None:
    made = drained(None, 2, 16).guest("kvm2", "web1", ram=2, running=False, entry=AWAY).operation("web1", "kvm1", "kvm2", has_run=None)
    (move,) = made.restore()["moves"]
    assert (move["how"], move["migration_uuid"]) == ("revert", uuid_of("operation web1"))


@pytest.mark.parametrize(
    ("running", "more"), [(True, {"has_run": "it runs"}), (False, {"has_run": "its journal says so"}), (False, {}), (True, {"has_run": None})]
)
def test_a_guest_that_has_run_or_may_have_is_confirmed_and_moved(running: bool, more: dict[str, Any]) -> None:
    """Its sealed copy holds the room at home that it needs itself."""
    made = drained(None, 2, 16).guest("kvm2", "web1", ram=2, running=running, entry=AWAY).operation("web1", "kvm1", "kvm2", **more)
    (move,) = made.restore()["moves"]
    assert (move["how"], move["migration_uuid"]) == ("confirm_move", uuid_of("operation web1"))


def test_those_that_do_not_fit_stay_and_are_named() -> None:
    made = drained(None, 8, 32)
    for number in range(3):
        made.guest("kvm2", f"web{number}", ram=3, entry=AWAY)
    told = made.restore()
    assert (len(told["moves"]), len(told["stays"])) == (2, 1)
    (stays,) = told["stays"]
    assert stays["code"] == "no_valid_host"
    assert stays["message"].startswith("it stays on kvm2: no other host would take it: kvm1: needs 3072 MB, 2048 MB left")
    assert told["message"].endswith("2 guests go home, 1 guest that came from here stays where it is.")


def test_a_guest_with_an_operation_under_way_stays_for_now() -> None:
    made = drained().guest("kvm2", "web1", entry=AWAY).operation("web1", "kvm2", "kvm3", "migrating", "sealed")
    assert by_name(made.restore()["stays"])["web1"]["code"] == "interrupted_operation"


def test_a_guest_that_cannot_move_stays() -> None:
    refusals = [{"code": "unsupported_hostdev", "reason": "it has a PCI device"}]
    assert by_name(drained().guest("kvm2", "gpu1", entry=AWAY, refusals=refusals).restore()["stays"])["gpu1"]["code"] == "not_movable"


def test_groups_are_kept_on_the_way_home() -> None:
    groups = {"web": {"policy": "anti-affinity", "members": ["web*"]}}
    made = drained(None, 8, 16, 16, 16).guest("kvm1", "web1").guest("kvm2", "web2", entry=AWAY).guest("kvm3", "db1", entry=AWAY)
    told = made.restore(server_groups=groups)
    assert (list(by_name(told["moves"])), list(by_name(told["stays"]))) == (["db1"], ["web2"])
    made = drained(None, 8, 16).guest("kvm2", "web1", entry=AWAY).guest("kvm2", "web2", entry=AWAY)
    told = made.restore(server_groups={"web": {"policy": "affinity", "members": ["web*"]}})
    assert sorted(by_name(told["moves"])) == ["web1", "web2"], "the whole group goes"
    told = made.restore(back=["web1"], server_groups={"web": {"policy": "affinity", "members": ["web*"]}})
    assert list(by_name(told["stays"])) == ["web1", "web2"], "half of a group would be torn from the other"


def test_a_name_that_means_nobody_is_refused() -> None:
    told = drained().guest("kvm2", "web1", entry=AWAY).restore(back=["web1", "wbe2"])
    assert told["error"]["code"] == "not_from_here"
    assert "'wbe2'" in told["error"]["message"]


def test_a_host_that_does_not_answer_is_not_restored() -> None:
    made = drained()
    made.host("kvm1").update(up=False, down_reason="no route")
    assert made.restore()["error"]["code"] == "host_unreachable"
