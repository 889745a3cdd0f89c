# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""All interleavings of a move between two hosts, explored: invariants 1 to 4 hold in every state that can be reached (see `operation_model`)."""

from __future__ import annotations

import pytest

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.planning import lost_host
from ansible_collections.kvmfleet.compute.tests.unit.plugins.plugin_utils.planning.operation_model import (
    ACTIONS,
    HOSTS,
    MOVE,
    PRECOPY,
    explore,
    still_needed,
    world_before,
)


@pytest.mark.parametrize("verb", ["recover", "confirm", "revert"])
@pytest.mark.parametrize(("was_running", "calls"), [(True, MOVE), (False, MOVE), (True, PRECOPY)])
def test_no_interleaving_loses_or_doubles_the_guest(was_running, calls, verb):
    reached = explore(world_before(was_running, verb, faults=3, calls=calls))
    ends = {(world.source.record.status, world.destination.record.status) for world in reached if world.source.record and world.destination.record}
    expected = {"recover": "error", "confirm": "confirmed", "revert": "reverted"}[verb]
    assert {("finished", "finished"), ("error", "error"), (expected, expected)} <= ends


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


def test_the_model_would_notice_a_source_that_is_restored_too_early(monkeypatch):
    """The exploration can fail: let the code go back although the destination cannot be asked."""
    monkeypatch.setitem(ACTIONS, "wait", ACTIONS["back"][1:])
    with pytest.raises(AssertionError, match="both hosts could start the guest"):
        explore(world_before(True, "recover", faults=2))


def test_the_model_would_notice_a_lost_host_whose_copy_is_not_given_up(monkeypatch):
    """Let its journal alone say what becomes of it when it comes back."""
    monkeypatch.setattr(lost_host, "of_a_returned_host", lambda record, forced: None)
    with pytest.raises(AssertionError):
        explore(world_before(True, "revert", faults=0)._replace(to_lose="destination"))
