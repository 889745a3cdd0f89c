# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Decisions about operations whose journals contradict each other, since an answer or a host was lost."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.kvmfleet.compute.plugins.module_utils._rules.errors import KvmfleetError
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.planning.recovery import decide

UUID = "6f1c2f6e-6f0e-4f0e-8b5c-0a7f4c1f6a51"


def record(role: str, status: str, destination: str | None, step: str = "some") -> dict[str, Any]:
    return {
        "uuid": UUID,
        "role": role,
        "status": status,
        "step": step,
        "instance_name": "web1",
        "instance_uuid": "0c3a2d3c-3f3a-4a44-9a29-4b5f2f0ad0f1",
        "migration_type": "resize",
        "source_host": "kvm1",
        "destination_host": destination,
        "was_running": True,
        "old_flavor": {},
        "new_flavor": {},
        "updated_at": 1000.0,
    }


def fleet(**hosts: dict[str, Any] | None) -> list[dict[str, Any]]:
    """One host a keyword: its open record, {} for none, None for an unreachable host."""
    down = {"up": False, "down_reason": "no route"}
    return [{"host": name, **(down if found is None else {"up": True, "migrations": [found] if found else []})} for name, found in hosts.items()]


@pytest.mark.parametrize("stray", ["kvm2", "kvm4"])
@pytest.mark.parametrize(("verb", "action"), [("recover", "none"), ("confirm", "confirm"), ("revert", "revert")])
def test_a_claim_whose_answer_was_lost_is_not_taken_for_the_destination(stray: str, verb: str, action: str) -> None:
    moved = {"kvm1": record("source", "finished", "kvm3"), "kvm3": record("destination", "finished", "kvm3")}
    hosts = {**moved, stray: record("destination", "pre-migrating", stray)}
    decisions = decide(fleet(**dict(sorted(hosts.items()))), verb)
    assert [(one["action"], one["destination"], one["stray"]) for one in decisions] == [(action, "kvm3", None), ("discard", stray, stray)]


def test_an_interrupted_confirm_waits_for_an_unreachable_source() -> None:
    assert decide(fleet(kvm1=None, kvm2=record("destination", "confirming", "kvm2")), "recover")[0]["action"] == "wait"


def test_an_interrupted_confirm_waits_for_an_unreachable_destination() -> None:
    assert decide(fleet(kvm1=record("source", "confirming", "kvm2"), kvm2=None), "recover")[0]["action"] == "wait"


@pytest.mark.parametrize("status", ["pre-migrating", "migrating"])
def test_a_finished_source_is_never_started_again_by_recover(status: str) -> None:
    hosts = fleet(kvm1=record("source", "finished", "kvm2"), kvm2=record("destination", status, "kvm2"))
    assert decide(hosts, "recover")[0]["action"] == "wait"


@pytest.mark.parametrize("verb", ["recover", "revert"])
def test_an_interrupted_revert_is_completed_after_the_source_has_closed_its_record(verb: str) -> None:
    assert decide(fleet(kvm1={}, kvm2=record("destination", "reverting", "kvm2")), verb)[0]["action"] == "revert"


@pytest.mark.parametrize("verb", ["confirm", "revert"])
@pytest.mark.parametrize("down", ["kvm1", "kvm2"])
def test_nothing_is_settled_while_a_host_is_away(verb: str, down: str) -> None:
    hosts = {"kvm1": record("source", "finished", "kvm2"), "kvm2": record("destination", "finished", "kvm2"), down: None}
    with pytest.raises(KvmfleetError, match=f"{down} is unreachable .no route.. Nothing was changed"):
        decide(fleet(**hosts), verb)
