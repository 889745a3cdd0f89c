# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""All interleavings of a move between two hosts, explored: invariants 1 to 4 hold in every state that can be reached (see `operation_model`)."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from ansible_collections.kvmfleet.compute.plugins.modules import destination_copy, source_copy
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.planning import lost_host
from ansible_collections.kvmfleet.compute.tests.unit.plugins.plugin_utils.planning import operation_model
from ansible_collections.kvmfleet.compute.tests.unit.plugins.plugin_utils.planning.operation_hands import CLONE, DETACHED, ELSEWHERE, HANDS, HANG, SNAPSHOT
from ansible_collections.kvmfleet.compute.tests.unit.plugins.plugin_utils.planning.operation_model import (
    ACTIONS,
    HOSTS,
    MOVE,
    PRECOPY,
    STEPS,
    explore,
    still_needed,
    world_before,
)

TASKS = Path(__file__).resolve().parents[5] / "roles" / "settle" / "tasks"


@pytest.mark.invariant(1, 4)
@pytest.mark.parametrize("verb", ["recover", "confirm", "revert"])
@pytest.mark.parametrize(("was_running", "calls"), [(True, MOVE), (False, MOVE), (True, PRECOPY)])
def test_no_interleaving_loses_or_doubles_the_guest(was_running, calls, verb):
    reached = explore(world_before(was_running, verb, faults=3, calls=calls))
    ends = {(world.source.record.status, world.destination.record.status) for world in reached if world.source.record and world.destination.record}
    expected = {"recover": "error", "confirm": "confirmed", "revert": "reverted"}[verb]
    assert {("finished", "finished"), ("error", "error"), (expected, expected)} <= ends


@pytest.mark.invariant(1)
@pytest.mark.parametrize("lost", ["source", "destination"])
@pytest.mark.parametrize("verb", ["recover", "confirm", "revert"])
@pytest.mark.parametrize(("was_running", "calls"), [(True, MOVE), (False, MOVE), (True, PRECOPY)])
def test_a_lost_host_that_comes_back_never_doubles_the_guest(was_running, calls, verb, lost):
    """It was named as lost while it was away; the decision that was made without it holds."""
    reached = explore(world_before(was_running, verb, faults=2, calls=calls)._replace(to_lose=lost))
    ended = {(role, getattr(world, role).record.status) for world in reached if world.away for role in HOSTS if still_needed(getattr(world, role))}
    expected = {
        ("source", "recover"): {("destination", "error")}, ("source", "confirm"): {("destination", "confirmed")}, ("source", "revert"): set(),
        ("destination", "recover"): {("source", "error")}, ("destination", "confirm"): set(), ("destination", "revert"): {("source", "reverted")},
    }[lost, verb]  # fmt: skip
    assert ended >= expected


@pytest.mark.invariant(2)
@pytest.mark.parametrize("verb", ["recover", "confirm", "revert"])
@pytest.mark.parametrize("was_running", [True, False])
@pytest.mark.parametrize(("acts", "faults"), [(2, 0), (1, 1)])
def test_whatever_the_guest_and_others_do_nothing_that_it_wrote_is_discarded(was_running, verb, acts, faults):
    """It goes off, gets stuck, is started by somebody, or loses its agent, at any point."""
    reached = explore(world_before(was_running, verb, faults=faults)._replace(acts=acts))
    ends = {(world.source.record.status, world.destination.record.status) for world in reached if world.source.record and world.destination.record}
    expected = {"recover": "error", "confirm": "confirmed", "revert": "reverted"}[verb]
    assert {("finished", "finished"), (expected, expected)} <= ends
    if was_running and verb == "confirm":
        steps = {world.destination.record.step for world in reached if world.destination.record and not world.destination.running}
        assert {"starting", "started", "finished"} <= steps


@pytest.mark.invariant(3)
@pytest.mark.parametrize("verb", ["recover", "revert"])
@pytest.mark.parametrize("calls", [MOVE, PRECOPY])
def test_a_guest_that_shuts_down_whenever_it_likes_runs_in_the_end(calls, verb):
    reached = explore(world_before(True, verb, faults=2, calls=calls)._replace(slow=True))
    assert any(world.source.asked and not world.runs and not world.working for world in reached)


@pytest.mark.parametrize("without_agent", [False, True])
def test_a_guest_without_its_agent_is_confirmed_only_where_somebody_says_so(without_agent):
    start = world_before(True, "confirm", faults=0)._replace(agent_gone=True, without_agent=without_agent)
    assert any(world.source.record and world.source.record.status == "confirmed" for world in explore(start)) is without_agent


@pytest.mark.invariant(2)
@pytest.mark.parametrize("verb", ["recover", "confirm", "revert"])
@pytest.mark.parametrize("hand", HANDS)
def test_whatever_others_do_to_its_files_nobody_loses_anything(hand, verb):
    """A snapshot, a detached disk, one that another guest has, a linked clone, a host that hangs: at any point, and it ends once that was taken back."""
    reached = explore(world_before(True, verb, faults=1, calls=PRECOPY)._replace(hands=(hand,)))
    ends = {(world.source.record.status, world.destination.record.status) for world in reached if world.source.record and world.destination.record}
    expected = {"recover": "error", "confirm": "confirmed", "revert": "reverted"}[verb]
    assert {("finished", "finished"), (expected, expected)} <= ends


@pytest.mark.parametrize("verb", ["recover", "confirm", "revert"])
@pytest.mark.parametrize("more", [{"acts": 1}, {"slow": True}, {"hands": (HANG,)}, {"hands": (CLONE,)}], ids=["guest acts", "slow", "hang", "clone"])
@pytest.mark.parametrize("hand", [SNAPSHOT, DETACHED, ELSEWHERE, CLONE])
def test_two_acts_in_one_operation(hand, more, verb):
    """What the guest does and what somebody does to its files; or two things that somebody does, one to each copy."""
    explore(world_before(True, verb, faults=0, calls=PRECOPY)._replace(**{**more, "hands": (hand, *more.get("hands", ()))}))


@pytest.mark.parametrize("hand", [SNAPSHOT, DETACHED, ELSEWHERE, CLONE])
def test_the_model_would_notice_a_file_that_goes_under_somebody(monkeypatch, hand):
    """As it was once: a disk that is not what was expected counts as merged already, and nobody asks who else uses a file."""
    monkeypatch.setattr(operation_model, "keeps", lambda use, on: False)
    with pytest.raises(AssertionError, match=f"somebody lost what is his.*{hand}"):
        explore(world_before(True, "recover", faults=0, calls=PRECOPY)._replace(hands=(hand,)))


@pytest.mark.parametrize("hand", [SNAPSHOT, DETACHED])
def test_the_model_would_notice_a_seal_that_does_not_look_again(monkeypatch, hand):
    monkeypatch.setattr(operation_model, "is_changed", lambda use: False)
    with pytest.raises(AssertionError, match=f"somebody lost what is his.*{hand}"):
        explore(world_before(True, "recover", faults=0)._replace(hands=(hand,)))


def test_the_model_would_notice_a_guest_that_is_withdrawn_after_a_module_that_had_been_given_up_has_finished(monkeypatch):
    monkeypatch.setattr(operation_model, "has_finished", lambda host: False)
    with pytest.raises(AssertionError, match="look at the guest there before you decide"):
        explore(world_before(True, "recover", faults=0)._replace(hands=(HANG,)))


def test_the_model_would_notice_a_guest_that_is_taken_back_since_it_does_not_run_now(monkeypatch):
    """As it was once: what happened is concluded from the state of this instant."""
    monkeypatch.setattr(operation_model.Host, "has_run", property(lambda host: host.record.status == "post-migrating" and host.running))
    monkeypatch.setitem(STEPS, "withdraw", STEPS["drop"])
    with pytest.raises(AssertionError, match="what the guest wrote was discarded"):
        explore(world_before(True, "recover", faults=1)._replace(acts=1))


def test_the_model_would_notice_a_guest_that_is_started_again(monkeypatch):
    def again(world):
        host = world.destination
        starts = host.record.step == "started" and not host.running
        return world.host("destination", host._replace(running=True)) if starts else operation_model.go_on(world)

    monkeypatch.setitem(STEPS, "go_on", again)
    with pytest.raises(AssertionError, match="was started again"):
        explore(world_before(True, "recover", faults=1)._replace(acts=1))


def test_the_model_would_notice_a_request_to_shut_down_that_is_forgotten(monkeypatch):
    monkeypatch.setattr(operation_model, "neutralised", lambda host: host)
    with pytest.raises(AssertionError, match="nobody starts it|does not run where it ran"):
        explore(world_before(True, "recover", faults=0)._replace(slow=True))


def test_the_model_would_notice_a_source_that_is_restored_too_early(monkeypatch):
    """The exploration can fail: let the code go back although the destination cannot be asked."""
    monkeypatch.setitem(ACTIONS, "wait", ACTIONS["back"][1:])
    with pytest.raises(AssertionError, match="both hosts could start the guest"):
        explore(world_before(True, "recover", faults=2))


def test_the_model_would_notice_a_module_that_takes_back_by_itself_what_has_been_handed_over(monkeypatch):
    """Its run is gone, but that had begun to start the guest elsewhere."""
    monkeypatch.setitem(operation_model.BY_ITSELF, "finish", "restore")
    with pytest.raises(AssertionError, match="both hosts could start the guest"):
        explore(world_before(True, "recover", faults=1))


def test_the_model_would_notice_a_lost_host_whose_copy_is_not_given_up(monkeypatch):
    """Let its journal alone say what becomes of it when it comes back."""
    monkeypatch.setattr(lost_host, "of_a_returned_host", lambda record, forced: None)
    with pytest.raises(AssertionError):
        explore(world_before(True, "revert", faults=0)._replace(to_lose="destination"))


def test_the_modules_take_back_by_themselves_what_the_model_takes_back():
    took_back = {(module, state) for module in (destination_copy, source_copy) for state in getattr(module, "TAKEN_BACK", ())}
    assert took_back == {operation_model.STATES[name] for name in operation_model.BY_ITSELF}


def test_the_roles_call_what_the_model_calls():
    """In `apply/` and `take_over/main.yml`: the modules with their states, in their order, on the host of that role, for the records that are open."""
    for action, calls in ACTIONS.items():
        path = TASKS / f"apply/{action}.yml"
        told = calls_in(path) if path.exists() else []
        assert told == [(role, operation_model.STATES[name], needs) for role, name, needs in calls], path
    assert set(ACTIONS) == {path.stem for path in TASKS.glob("apply/*.yml")} - {"main", "in_place"} | {"none", "wait", "release"}
    (block,) = yaml.safe_load((TASKS / "take_over/main.yml").read_text())
    took = [task for task in block["block"] if "kvmfleet.compute.migration" in task]
    assert [(role_of(task), task["kvmfleet.compute.migration"]["state"] == "taken_over") for task in took] == [("destination", True), ("source", True)]
    chosen = {"action": "back", "destination_open": True, "source_open": True}
    assert operation_model.take_overs(chosen) == (("destination", "take_over"), ("source", "take_over"))


def calls_in(path):
    found = []
    for task in yaml.safe_load(path.read_text()):
        ((module, arguments),) = [(key.rpartition(".")[2], value) for key, value in task.items() if key.startswith("kvmfleet.compute.")]
        needs = re.fullmatch(r"__settle_decision\.(source|destination)_open", task["when"]) if "when" in task else None
        assert "when" not in task or needs, task
        modules = {"destination_copy": operation_model.destination_copy, "source_copy": operation_model.source_copy}
        found.append((role_of(task), (modules[module], arguments["state"]), needs and needs.group(1)))
    return found


def role_of(task):
    return re.match(r"\{\{ __settle_(?:decision|open)\.(source|destination)\b", task["delegate_to"]).group(1)
