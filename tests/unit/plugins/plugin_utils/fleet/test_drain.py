# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a drain comes to: a class for every guest, a place for every one that moves, all of them together, or a refusal with everybody's numbers."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.kvmfleet.compute.plugins.filter.plan_drain import plan_drain
from ansible_collections.kvmfleet.compute.tests.unit.plugins.plugin_utils.fleet.fleets import Made, host, places, uuid_of


def fleet(*rams: float, **more: Any) -> Made:
    """kvm1, kvm2, ... with so much memory (GiB) each."""
    return Made(*(host(f"kvm{number}", ram, **more) for number, ram in enumerate(rams or (16, 16, 16), 1)))


def by_name(listed: Any) -> dict[str, Any]:
    return {each["instance"]: each for each in listed}


def test_all_guests_of_a_host_get_a_place_together() -> None:
    made = fleet(16, 8, 8)
    for number in range(4):
        made.guest("kvm1", f"web{number}", ram=4)
    told = made.plan()
    assert (told["error"], told["fits"], told["totals"]["moves"]) == (None, True, 4)
    assert sorted(places(told).values()) == ["kvm2", "kvm2", "kvm3", "kvm3"]
    assert [move["order"] for move in told["moves"]] == [1, 2, 3, 4]
    assert {move["wants"]["ram_bytes"] for move in told["moves"]} == {4 * 1024**3}
    assert told["message"] == "4 guests of kvm1 move to 2 hosts, 1.0 GiB are copied."


def test_a_drain_is_refused_with_the_numbers_of_each_guest_that_finds_no_room() -> None:
    made = fleet(128, 48, 16).guest("kvm1", "db2", ram=64).guest("kvm1", "web1", ram=2)
    told = made.plan()
    assert not told["fits"]
    refused = by_name(told["refused"])
    assert list(refused) == ["db2"]
    assert (refused["db2"]["code"], refused["db2"]["best"], refused["db2"]["need"], refused["db2"]["have"]) == ("no_valid_host", "kvm2", 65536, 49152)
    assert told["lines"][0] == "kvm1 cannot be drained; nothing was changed."
    assert told["lines"][1] == "  2 guests run there or are off there: 1 finds room together, 1 does not."
    assert told["lines"][2].startswith("    db2  64.0 GiB  needs 64 GiB of memory: best is kvm2 with 48 left")


def test_the_cheapest_cure_is_told_where_sealed_copies_hold_the_room() -> None:
    made = fleet(64, 48, 16, 64).guest("kvm1", "db2", ram=40)
    for name in ("vm77", "vm78"):
        made.guest("kvm4", name, ram=16).operation(name, "kvm2", "kvm4")
    told = made.plan()
    assert "kvm2" in by_name(told["refused"])["db2"]["cure"]
    assert told["lines"][2].endswith("(fits if vm77 and vm78, unconfirmed on kvm2, are confirmed: +32 GiB)")


def test_nobody_is_told_to_confirm_what_would_not_help() -> None:
    """The host is too small for the guest, whatever it holds."""
    made = fleet(64, 32, 16, 64).guest("kvm1", "db2", ram=40).guest("kvm4", "vm77", ram=30).operation("vm77", "kvm2", "kvm4")
    assert "unconfirmed" not in made.plan()["message"]


@pytest.mark.parametrize("hosts", [[], ["../x"], [7]])
def test_what_names_no_host_is_refused(hosts: Any) -> None:
    assert plan_drain(fleet().facts, hosts, [])["error"]["code"] == "invalid_value"


def test_other_hosts_that_are_drained_are_no_places() -> None:
    made = fleet(16, 16, 8).guest("kvm1", "web1", ram=2).guest("kvm2", "web2", ram=2)
    assert set(places(made.plan("kvm1", "kvm2")).values()) == {"kvm3"}
    made.host("kvm3")["maintenance"] = {"uuid": "d", "state": "evacuated", "reason": "new memory", "by": "ann", "guests": {}}
    told = made.plan("kvm1", "kvm2")
    assert sorted(by_name(told["refused"])) == ["web1", "web2"]
    assert "kvm3: is evacuated by ann: new memory" in told["message"]


def test_a_host_that_is_being_restored_takes_nobody_but_those_who_come_home() -> None:
    made = fleet(16, 16).guest("kvm1", "web1")
    made.host("kvm2")["maintenance"] = {"uuid": "d", "state": "restoring", "reason": "new memory", "guests": {}}
    assert "kvm2: is in maintenance: restoring, new memory" in made.plan()["message"]


def test_a_host_that_was_not_asked_in_this_run_is_not_drained() -> None:
    made = fleet().guest("kvm1", "web1").guest("kvm2", "web2")
    made.host("kvm1")["run"] = "another"
    assert made.plan()["error"]["code"] == "facts_missing"
    assert made.plan("kvm2")["fits"], "others may be known from before: the claim judges them by what is"


def test_what_another_drain_promises_counts_as_use_of_its_destination() -> None:
    made = fleet(16, 8, 16).guest("kvm1", "web1", ram=6).guest("kvm3", "db1", ram=6)
    assert places(made.plan()) == {"web1": "kvm3"}
    promised = {uuid_of("db1"): {"instance": "db1", "class": "move", "destination": "kvm2", "order": 1, "state": "planned"}}
    made.host("kvm3")["maintenance"] = {"uuid": "d", "state": "draining", "reason": "disk", "by": "ann", "guests": promised}
    assert not made.plan()["fits"]
    made.host("kvm2")["instances"].append(uuid_of("db1"))
    assert made.plan()["fits"], "a claim that is there is charged already, and is not charged twice"


@pytest.mark.parametrize(("said", "listed"), [("stop", "stops"), ("leave", "leaves")])
def test_a_guest_that_cannot_move_is_refused_unless_somebody_says_what_becomes_of_it(said: str, listed: str) -> None:
    refusals = [{"code": "unsupported_hostdev", "reason": "it has a PCI device passed through"}]
    made = fleet().guest("kvm1", "gpu1", refusals=refusals).guest("kvm1", "web1")
    told = made.plan()
    assert not told["fits"]
    assert by_name(told["unmovable"])["gpu1"]["code"] == "not_movable"
    assert told["lines"][2].endswith("cannot move: it has a PCI device passed through [unsupported_hostdev]; -e on_unmovable=stop|leave")
    told = made.plan(on_unmovable=said)
    assert told["fits"]
    assert list(by_name(told[listed])) == ["gpu1"]


def test_a_transient_guest_is_not_stopped_since_nobody_could_start_it_again() -> None:
    made = fleet().guest("kvm1", "tmp1", persistent=False)
    told = made.plan(on_unmovable="stop")
    assert by_name(told["unmovable"])["tmp1"]["option"] == "on_unmovable=leave"
    assert made.plan(on_unmovable="leave")["fits"]


def test_an_unconfirmed_arrival_is_named_with_what_to_do_first() -> None:
    made = fleet().guest("kvm1", "web1").guest("kvm1", "web2").operation("web1", "kvm2", "kvm1")
    told = made.plan()
    assert not told["fits"]
    busy = by_name(told["busy"])["web1"]
    assert (busy["code"], busy["option"], busy["migration_uuid"]) == ("unconfirmed_migration", "confirm|revert", uuid_of("operation web1"))
    assert "it came from kvm2 by migration" in told["message"]


def test_an_interrupted_operation_is_named_too_though_its_guest_is_defined_nowhere() -> None:
    made = fleet().guest("kvm1", "web2").operation("web1", "kvm1", "kvm2", "migrating", "sealed")
    told = made.plan()
    assert by_name(told["busy"])["web1"]["option"] in ("recover", "wait")
    assert not told["fits"]


def test_sealed_copies_that_wait_keep_a_host_from_being_empty_and_nothing_else() -> None:
    made = fleet().guest("kvm2", "web1").operation("web1", "kvm1", "kvm2")
    told = made.plan()
    assert told["fits"]
    assert [copy["instance_name"] for copy in told["copies"]] == ["web1"]


def test_a_guest_that_is_on_its_way_to_the_host_is_told() -> None:
    made = fleet().guest("kvm2", "web1").operation("web1", "kvm2", "kvm1", "pre-migrating", "claimed")
    assert [(each["instance_name"], each["source"]) for each in made.plan()["arriving"]] == [("web1", "kvm2")]


class TestOrder:
    def test_the_smallest_that_runs_goes_first_alone_then_those_that_are_off(self) -> None:
        made = fleet().guest("kvm1", "big", ram=4, disk=40).guest("kvm1", "small", disk=2).guest("kvm1", "off1", disk=9, running=False)
        moves = made.plan()["moves"]
        assert [(move["instance"], move["canary"], move["downtime"]) for move in moves] == [
            ("small", True, "running"),
            ("off1", False, "off"),
            ("big", False, "running"),
        ]
        assert [move["instance"] for move in made.plan(canary=0)["moves"]] == ["off1", "big", "small"]

    def test_the_longest_goes_first_and_destinations_take_turns(self) -> None:
        made = fleet(64, 16, 16, 16)
        for number in range(9):
            made.guest("kvm1", f"vm{number}", ram=2, disk=10 + number)
        moves = made.plan(canary=0)["moves"]
        assert moves[0]["instance"] == "vm8"
        assert all(len({move["destination"] for move in moves[start : start + 3]}) == 3 for start in (0, 3, 6))

    def test_priority_and_after_are_kept(self) -> None:
        made = fleet().guest("kvm1", "db1", disk=30).guest("kvm1", "web1", disk=90).guest("kvm1", "web2", disk=20)
        told = made.plan(canary=0, policies={"web*": {"after": "db1"}, "web2": {"priority": 5}})
        assert [move["instance"] for move in told["moves"]] == ["db1", "web2", "web1"]
        assert by_name(told["moves"])["web1"]["after"] == [uuid_of("db1")]
        assert by_name(told["moves"])["web1"]["class"] == "move"

    def test_guests_that_wait_for_each_other_are_refused(self) -> None:
        made = fleet().guest("kvm1", "a").guest("kvm1", "b")
        told = made.plan(policies={"a": {"after": "b"}, "b": {"after": "a"}})
        assert told["error"]["code"] == "after_cycle"
        assert not told["fits"]


def group(policy: str = "anti-affinity", **more: Any) -> dict[str, Any]:
    return {"web": {"policy": policy, "members": ["web*"], **more}}


class TestGroups:
    def test_no_two_members_come_to_one_host(self) -> None:
        made = fleet(16, 16, 16, 16).guest("kvm1", "web1").guest("kvm1", "web2").guest("kvm2", "web3")
        told = made.plan(server_groups=group())
        assert sorted(places(told).values()) == ["kvm3", "kvm4"]
        assert by_name(told["moves"])["web1"]["group"] == "web"

    def test_members_go_one_after_the_other(self) -> None:
        made = fleet(16, 16, 16, 16, 16)
        for number in range(1, 5):
            made.guest("kvm1", f"web{number}", disk=number)
        for limit in (1, 2):
            moves = made.plan(canary=0, server_groups=group("soft-anti-affinity", max_unavailable=limit))["moves"]
            chain = [move["uuid"] for move in moves]
            assert [move["after"] for move in moves] == [[]] * limit + [[chain[number]] for number in range(4 - limit)]

    def test_a_group_that_has_no_host_left_is_refused_by_name(self) -> None:
        made = fleet(16, 16, 16).guest("kvm1", "web9").guest("kvm2", "web8").guest("kvm3", "web7")
        told = made.plan(server_groups=group())
        assert by_name(told["refused"])["web9"]["code"] == "no_valid_host"
        assert told["lines"][2].endswith("anti-affinity with web8 (kvm2), web7 (kvm3); there is no host without one")

    def test_a_group_and_want_of_room_are_told_together(self) -> None:
        made = fleet(16, 16, 2).guest("kvm1", "web9", ram=4).guest("kvm2", "web8")
        told = made.plan(server_groups=group())
        assert told["lines"][2].startswith("    web9  4.0 GiB  anti-affinity with web8 (kvm2); needs 4 GiB of memory: best is kvm3 with 2 left")

    @pytest.mark.parametrize(("limit", "down", "fits"), [(0, False, False), (1, False, True), (1, True, False), (2, True, True), (None, True, False)])
    def test_a_member_that_is_down_anyway_counts(self, limit: int | None, down: bool, fits: bool) -> None:
        made = fleet().guest("kvm1", "web1").guest("kvm2", "web2", running=not down)
        told = made.plan(server_groups=group(**({} if limit is None else {"max_unavailable": limit})))
        assert told["fits"] == fits
        if not fits:
            refused = by_name(told["refused"])["web1"]
            assert refused["code"] == "group_unavailable"
            assert refused["down"] == (["web2 (kvm2: shutoff)"] if down else [])

    def test_a_member_that_another_drain_is_still_going_to_move_counts_too(self) -> None:
        """It may be down at any moment, and nobody tells this drain when."""
        made = fleet(16, 16, 16, 16).guest("kvm1", "web1").guest("kvm2", "web2")
        noted = {uuid_of("web2"): {"instance": "web2", "class": "move", "destination": "kvm3", "order": 1}}
        made.host("kvm2")["maintenance"] = {"uuid": "d", "state": "draining", "reason": "disk", "by": "ann", "guests": noted}
        told = made.plan(server_groups=group())
        assert by_name(told["refused"])["web1"]["down"] == ["web2 (by the drain of kvm2)"]
        assert made.plan(server_groups=group(max_unavailable=2))["fits"]
        assert made.plan("kvm1", "kvm2", server_groups=group())["fits"], "one drain of both hosts orders them itself"

    def test_a_member_that_is_stopped_by_the_drain_counts_as_down(self) -> None:
        made = fleet().guest("kvm1", "web1").guest("kvm1", "web2")
        assert not made.plan(policies={"web2": "stop"}, server_groups=group())["fits"]
        assert made.plan(policies={"web2": "stop"}, server_groups=group(max_unavailable=2))["fits"]

    def test_a_member_that_is_off_may_move_at_any_time(self) -> None:
        made = fleet().guest("kvm1", "web1", running=False).guest("kvm2", "web2", running=False)
        assert made.plan(server_groups=group())["fits"]

    def test_an_affinity_group_goes_to_one_host_as_a_whole(self) -> None:
        made = fleet(32, 20, 8, 12)
        for name, ram in (("web1", 4), ("web2", 4), ("web3", 2), ("db1", 8)):
            made.guest("kvm1", name, ram=ram)
        told = made.plan(server_groups=group("affinity"))
        assert len({places(told)[name] for name in ("web1", "web2", "web3")}) == 1
        made.guest("kvm3", "web4", ram=1)
        assert "web1" in by_name(made.plan(server_groups=group("affinity"))["refused"]), "kvm3 has a member and no room"

    def test_an_affinity_group_of_which_one_stays_holds_the_others(self) -> None:
        made = fleet().guest("kvm1", "web1").guest("kvm1", "web2")
        assert not made.plan(policies={"web2": "leave"}, server_groups=group("affinity"))["fits"]


class TestPolicies:
    def test_the_nearest_place_wins(self) -> None:
        made = fleet().guest("kvm1", "web1", entry={"policy": "stop"}).guest("kvm1", "db1")
        more = {"host_policies": {"kvm1": {"db*": "leave"}}, "zone_policies": {"north": {"*": "stop"}}, "guest_policies": {"*": "refuse"}}
        told = made.plan(**more)
        assert (list(by_name(told["stops"])), list(by_name(told["leaves"]))) == (["web1"], ["db1"])
        assert by_name(told["stops"])["web1"]["said"] == "its metadata"
        assert list(places(made.plan(**more, policies={"web1": "move"}))) == ["web1"]

    def test_within_a_place_the_least_disruptive_holds(self) -> None:
        made = fleet().guest("kvm1", "web1")
        assert list(by_name(made.plan(policies={"web1": "stop", "w*": "leave", "*": "move"})["leaves"])) == ["web1"]

    def test_a_guest_that_nobody_may_touch_keeps_the_drain_from_beginning(self) -> None:
        told = fleet().guest("kvm1", "web1").plan(guest_policies={"web1": "refuse"})
        assert by_name(told["refused"])["web1"]["code"] == "policy_refuses"
        assert "by kvmfleet_guest_policies" in told["message"]

    def test_a_guest_waits_for_approval(self) -> None:
        made = fleet().guest("kvm1", "web1")
        told = made.plan(guest_policies={"web1": {"approval": True}})
        assert (told["fits"], by_name(told["waits"])["web1"]["option"]) == (True, "approve=web1")
        assert list(places(made.plan(guest_policies={"web1": {"approval": True}}, approve="web1"))) == ["web1"]

    def test_a_guest_that_waits_has_its_place_as_well(self) -> None:
        made = fleet(16, 4).guest("kvm1", "web1", ram=4).guest("kvm1", "web2", ram=4)
        told = made.plan(guest_policies={"web1": {"approval": True}})
        assert not told["fits"]
        made = fleet(16, 8).guest("kvm1", "web1", ram=4).guest("kvm1", "web2", ram=4)
        assert by_name(made.plan(guest_policies={"web1": {"approval": True}})["waits"])["web1"]["destination"] == "kvm2"

    def test_a_guest_that_was_down_too_long_is_not_moved(self) -> None:
        made = fleet().guest("kvm1", "web1")
        told = made.plan(max_downtime=5, downtimes={uuid_of("web1"): 8.2})
        assert by_name(told["unmovable"])["web1"]["code"] == "downtime_over_limit"
        assert made.plan(max_downtime=9, downtimes={uuid_of("web1"): 8.2})["fits"]

    @pytest.mark.parametrize(
        ("options", "field"),
        [
            ({"policies": {"web1": "moev"}}, "policies.web1"),
            ({"policies": {"web1": {"polcy": "move"}}}, "policies.web1.polcy"),
            ({"guest_policies": {"web1": {"window": "Sat 2-5"}}}, "kvmfleet_guest_policies.web1.window"),
            ({"host_policies": {"kvm1": {"web1": {"priority": "high"}}}}, "kvmfleet_guest_policies of host kvm1.web1.priority"),
            ({"on_unmovable": "kill"}, "on_unmovable"),
            ({"canary": -1}, "canary"),
            ({"until": "gone"}, "until"),
            ({"parallel": 3}, "options.parallel"),
        ],
    )
    def test_what_is_no_option_is_refused_by_name(self, options: dict[str, Any], field: str) -> None:
        told = fleet().guest("kvm1", "web1").plan(**options)
        assert told["error"]["code"] == "invalid_value"
        assert told["error"]["details"]["field"] == field

    def test_metadata_that_says_no_policy_keeps_that_guest(self) -> None:
        told = fleet().guest("kvm1", "web1", entry={"policy": "fly"}).guest("kvm1", "web2").plan()
        assert list(by_name(told["unmovable"])) == ["web1"]
        assert "policy in the metadata of web1" in told["message"]


class TestEjection:
    def test_another_guest_makes_room_only_if_asked_for(self) -> None:
        made = fleet(16, 8, 8).guest("kvm1", "db1", ram=8).guest("kvm2", "small", ram=1).guest("kvm3", "other", ram=3)
        assert not made.plan()["fits"]
        told = made.plan(eject=True)
        assert told["fits"]
        first, second = told["moves"]
        assert (first["instance"], first["destination"], first["ejection"]) == ("small", "kvm3", True)
        assert (second["instance"], second["destination"], second["after"]) == ("db1", "kvm2", [uuid_of("small")])
        assert "makes room for db1 on kvm2, once it is confirmed" in "\n".join(told["lines"])

    def test_a_guest_that_has_no_other_place_makes_no_room(self) -> None:
        made = fleet(16, 8, 8).guest("kvm1", "db1", ram=8).guest("kvm2", "small", ram=1).guest("kvm3", "other", ram=8)
        assert not made.plan(eject=True)["fits"]


@pytest.mark.parametrize(("hosts", "code"), [(["kvm9"], "unknown_host"), (["kvm2"], "host_unreachable")])
def test_a_host_that_cannot_be_drained_at_all(hosts: list[str], code: str) -> None:
    made = fleet(16, 16)
    made.host("kvm2").update(up=False, down_reason="no route")
    told = made.plan(*hosts)
    assert (told["error"]["code"], told["fits"]) == (code, False)


def test_a_host_without_guests_is_nothing_to_do() -> None:
    assert fleet().plan()["lines"] == ["kvm1 has no guests."]
