# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""An operation one of whose hosts is named as lost, and what is done when that host comes back."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.kvmfleet.compute.plugins.filter.decide_migrations import decide_migrations
from ansible_collections.kvmfleet.compute.plugins.module_utils._rules.errors import KvmfleetError
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.planning.recovery import decide
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.planning.status import fleet_status

STEPS = {"post-migrating": "defined", "pre-migrating": "admitted"}


def record(role: str, status: str, step: str | None = None, **changes: Any) -> dict[str, Any]:
    parties = {"source_host": "kvm1", "destination_host": "kvm2", "instance_name": "web1", "instance_uuid": "i-1", "migration_type": "resize"}
    rest = {"was_running": True, "old_flavor": {}, "new_flavor": {}, "updated_at": 1000.0, "lease_until": 1000.0}
    return {"uuid": "m-1", "role": role, "status": status, "step": step or STEPS.get(status, status), **parties, **rest, **changes}


def forced(role: str, status: str) -> dict[str, Any]:
    return record(role, status, forced={"lost_host": {"source": "kvm2", "destination": "kvm1"}[role], "at": 1000.0})


def host(name: str, found: dict[str, Any] | None = None, up: bool = True, state: str | None = None, **changes: Any) -> dict[str, Any]:
    """A host with one record, if any."""
    if not up:
        return {"host": name, "up": False, "down_reason": "no route", **changes}
    ended = found is not None and "forced" in found and found["status"] in ("confirmed", "reverted", "error")
    records = {"migrations": [] if found is None or ended else [found], "forced_migrations": [found] if ended else []}
    return {"host": name, "up": True, **records, "domains": [{"name": "web1", "uuid": "i-1", "state": state}] if state else [], **changes}


def lost(name: str) -> dict[str, Any]:
    return host(name, up=False)


def outcome(hosts: list[dict[str, Any]], verb: str, **meant: Any) -> str:
    """The action, or the code of the refusal."""
    try:
        (decision,) = decide(hosts, verb, **meant)
    except KvmfleetError as refusal:
        return refusal.code
    return decision["action"]


@pytest.mark.parametrize(
    ("status", "step", "recover", "confirm"),
    [
        ("pre-migrating", "admitted", "discard", "not_finished"),
        ("pre-migrating", "precopying", "discard", "not_finished"),
        ("migrating", "receiving", "discard", "not_finished"),
        ("migrating", "publishing", "wait", "not_finished"),
        ("migrating", "defining", "forward", "not_finished"),
        ("post-migrating", "defined", "forward", "not_finished"),
        ("finished", "finished", "none", "confirm"),
        ("confirming", "confirming", "confirm", "confirm"),
        ("reverting", "reverting", "wait", "not_finished"),
    ],
)
def test_without_the_source(status: str, step: str, recover: str, confirm: str) -> None:
    hosts = [lost("kvm1"), host("kvm2", record("destination", status, step), state="running")]
    chosen = [outcome(hosts, verb, instance="web1", lost_host="kvm1") for verb in ("recover", "confirm", "revert")]
    assert chosen == [recover, confirm, "copy_lost"]


@pytest.mark.parametrize(
    ("status", "step", "recover", "revert"),
    [
        ("migrating", "stopping", "back", "not_finished"),
        ("migrating", "sealing", "back", "not_finished"),
        ("migrating", "sealed", "back", "not_finished"),
        ("finished", "finished", "none", "revert"),
        ("confirming", "confirming", "wait", "not_finished"),
        ("reverting", "reverting", "revert", "revert"),
    ],
)
def test_without_the_destination(status: str, step: str, recover: str, revert: str) -> None:
    hosts = [host("kvm1", record("source", status, step)), lost("kvm2")]
    chosen = [outcome(hosts, verb, instance="web1", lost_host="kvm2") for verb in ("recover", "confirm", "revert")]
    assert chosen == [recover, "copy_lost", revert]


@pytest.mark.parametrize("verb", ["recover", "confirm", "revert"])
@pytest.mark.parametrize(
    ("hosts", "name", "code"),
    [
        ([host("kvm1", record("source", "finished")), host("kvm2", record("destination", "finished"))], "kvm1", "host_answers"),
        ([host("kvm1", up=False, reachable=True), host("kvm2", record("destination", "finished"))], "kvm1", "host_answers"),
        ([lost("kvm3"), host("kvm1", record("source", "finished")), host("kvm2", record("destination", "finished"))], "kvm3", "not_a_party"),
        ([host("kvm1", record("source", "finished")), host("kvm2", record("destination", "finished"))], "kvm9", "unknown_host"),
    ],
)
def test_who_is_not_lost(verb: str, hosts: list[dict[str, Any]], name: str, code: str) -> None:
    assert outcome(hosts, verb, instance="web1", lost_host=name) == code


def test_a_copy_that_was_being_withdrawn_is_not_started() -> None:
    hosts = [lost("kvm1"), host("kvm2", record("destination", "post-migrating", withdrawing=True), state="shutoff")]
    assert outcome(hosts, "recover", lost_host="kvm1") == "discard"


def test_a_lost_host_may_have_left_the_inventory() -> None:
    hosts = [host("kvm2", record("destination", "finished"), state="running")]
    assert outcome(hosts, "confirm", instance="web1") == "not_finished"
    assert outcome(hosts, "confirm", instance="web1", lost_host="kvm1") == "confirm"


def test_a_refusal_names_the_word_where_it_would_help() -> None:
    hosts = [lost("kvm1"), host("kvm2", record("destination", "finished"), state="running")]
    with pytest.raises(KvmfleetError, match="or with lost_host=kvm1 if that is gone for good"):
        decide(hosts, "confirm", "web1")
    with pytest.raises(KvmfleetError, match="repeat when it is back.$"):
        decide(hosts, "revert", "web1")


def test_recovery_of_all_decides_the_others_as_ever() -> None:
    other = record("source", "finished", uuid="m-2", instance_uuid="i-2", instance_name="db1", source_host="kvm3", destination_host="kvm4")
    hosts = [host("kvm1", record("source", "migrating", "sealed")), lost("kvm2"), host("kvm3", other), host("kvm4", dict(other, role="destination"))]
    assert [(one["instance_name"], one["action"], one["lost_host"]) for one in decide(hosts, "recover", lost_host="kvm2")] == [
        ("web1", "back", "kvm2"),
        ("db1", "none", None),
    ]


def test_an_undo_without_the_destination_goes_on_even_if_that_comes_back_and_says_finished() -> None:
    """The guest may have been started here already when the run died."""
    source = record("source", "migrating", "sealed", forced={"lost_host": "kvm2", "at": 1.0})
    hosts = [host("kvm1", source, state="running"), host("kvm2", record("destination", "finished"), state="shutoff")]
    assert outcome(hosts, "recover") == "back"


class TestTheHostThatWasLostIsBack:
    """Its journal says what it said when it was lost; the other journal says how the operation ended."""

    @pytest.mark.parametrize(
        ("status", "step", "expected"),
        [
            ("finished", "finished", "confirm"),
            ("migrating", "sealed", "confirm"),
            ("confirming", "confirming", "confirm"),
            ("migrating", "stopped", "wait"),
            ("pre-migrating", "begun", "wait"),
        ],
    )
    def test_a_source_without_which_it_was_confirmed(self, status: str, step: str, expected: str) -> None:
        hosts = [host("kvm1", record("source", status, step)), host("kvm2", forced("destination", "confirmed"), state="running")]
        (decision,) = decide(hosts, "recover")
        assert (decision["action"], decision["survivor"], decision["settled_as"]) == (expected, "kvm2", "confirmed")
        assert (decision["source_open"], decision["destination_open"]) == (True, False)
        if expected == "confirm":
            assert outcome(hosts, "confirm", instance="web1") == "confirm"
        assert outcome(hosts, "revert", instance="web1") == "not_finished"

    @pytest.mark.parametrize("ended", ["reverted", "error"])
    @pytest.mark.parametrize("status", ["pre-migrating", "migrating", "post-migrating", "finished", "confirming", "reverting"])
    @pytest.mark.parametrize("state", ["running", "shutoff"])
    def test_a_destination_without_which_the_guest_went_back(self, status: str, ended: str, state: str) -> None:
        """Its copy goes, whatever it says, and even if somebody has started it."""
        hosts = [host("kvm1", forced("source", ended), state="running"), host("kvm2", record("destination", status), state=state)]
        (decision,) = decide(hosts, "recover")
        assert (decision["action"], decision["survivor"], decision["settled_as"]) == ("discard", "kvm1", ended)
        assert outcome(hosts, "revert", instance="web1") == "discard"
        assert outcome(hosts, "confirm", instance="web1") == "not_finished"

    def test_a_source_without_which_a_copy_was_thrown_away(self) -> None:
        hosts = [host("kvm1", record("source", "migrating", "sealed")), host("kvm2", forced("destination", "error"))]
        (decision,) = decide(hosts, "recover")
        assert (decision["action"], decision["survivor"]) == ("back", "kvm2")

    @pytest.mark.parametrize(
        ("source", "expected"),
        [
            (lost("kvm1"), "none"),
            (host("kvm1"), "release"),
            (host("kvm1", state="shutoff"), "wait"),
        ],
    )
    def test_without_a_record_of_it(self, source: dict[str, Any], expected: str) -> None:
        hosts = [source, host("kvm2", forced("destination", "confirmed"), state="running")]
        assert outcome(hosts, "recover") == expected
        assert decide(hosts[1:], "recover")[0]["action"] == "none"
        if expected != "wait":
            assert decide(hosts, "confirm", "web1") == []

    def test_a_guest_that_has_come_back_to_it_since_is_no_second_copy(self) -> None:
        hosts = [host("kvm1", state="running"), host("kvm2", forced("destination", "confirmed"))]
        assert outcome(hosts, "recover") == "release"

    def test_each_was_given_up_by_the_other(self) -> None:
        hosts = [host("kvm1", forced("source", "reverted"), state="running"), host("kvm2", forced("destination", "confirmed"), state="running")]
        assert outcome(hosts, "recover") == "wait"


def test_the_filter_takes_a_blank_for_nothing() -> None:
    hosts = [lost("kvm1"), host("kvm2", record("destination", "finished"), state="running")]
    assert decide_migrations(hosts, "confirm", "web1", lost_host="")["error"]["code"] == "host_unreachable"
    assert decide_migrations(hosts, "confirm", "web1", lost_host="kvm1")["decisions"][0]["action"] == "confirm"


def test_the_status_tells_of_it() -> None:
    capacity = {"vcpus": 8, "vcpus_used": 1, "memory_mb": 16384, "memory_mb_used": 1280, "local_gb": 200.0, "local_gb_used": 21.0, "num_instances": 1}
    capacity["now"] = 2000.0
    ended = host("kvm2", forced("destination", "confirmed"), state="running", **capacity)
    assert fleet_status([lost("kvm1"), ended]).endswith("it was ended without kvm1, which has not come back")
    back = host("kvm1", record("source", "finished"), **capacity)
    assert "recover (confirm: it was confirmed at kvm2 when kvm1 had been given up as lost)" in fleet_status([back, ended])
