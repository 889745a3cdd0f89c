# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""`kvmfleet_migration`: numbers are numbers whatever templates made of them, and the last line says all that matters."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.artifacts import migration, plan

MIB = 2**20
NONE = {"ephemeral": 0, "swap": 0}
SMALL, LARGE = {"name": "small", "vcpus": 1, "ram": 2048, "disk": 20, **NONE}, {"name": "large", "vcpus": 4, "ram": 8192, "disk": 20, **NONE}


def as_text(value: Any) -> Any:
    """As a template of ansible-core before 2.19 hands numbers over."""
    if isinstance(value, dict):
        return {key: as_text(item) for key, item in value.items()}
    if isinstance(value, list):
        return [as_text(item) for item in value]
    return value if value is None or isinstance(value, bool) else str(value)


def told(**changes: Any) -> dict[str, Any]:
    sealed = {"received_at": 100.0, "answered_at": 5000.0, "stopped": {"requested_at": 4990.0, "was_running": True, "method": "agent"}}
    started = {
        "received_at": 103.5,
        "answered_at": 9000.0,
        "timings": {"started_at": 8999.0},
        "bytes_transferred": 48 * MIB,
        "agent_answered": True,
        "copied_by": "nbdcopy",
    }
    base = {"sha256": "a" * 64, "path": "/b", "from": "kvm1", "bytes_transferred": 24 * MIB}
    return {
        "sealed": sealed,
        "started": started,
        "channel": {"bandwidth_limit": 500, "transport": "nbdkit"},
        "ahead": {"wanted": True, "reason": "it takes long"},
        "rounds": [3 * MIB, MIB],
        "frozen": {"reason": "little is left"},
        "quiesced": [True, False],
        "shared": [],
        "tunnel": {},
        "obtained": [base],
        "passed_over": [],
        "filesystem": {"answer": "not_asked", "code": None, "reason": ""},
        **changes,
    }


PLAN = {
    "action": "move",
    "source": "kvm1",
    "record": {"instance_name": "web1", "migration_type": "resize", "old_flavor": SMALL, "new_flavor": LARGE},
}


@pytest.mark.parametrize("handed", [lambda value: value, as_text], ids=["numbers", "text"])
def test_numbers_are_numbers_whatever_they_came_as(handed: Any) -> None:
    moved = migration.moved(handed(PLAN), "kvm2", "u", handed(told()))
    assert {name: moved[name] for name in ("overlay_bytes", "base_bytes", "resumed_bytes", "bandwidth_limit", "downtime_seconds")} == {
        "overlay_bytes": 48 * MIB,
        "base_bytes": 24 * MIB,
        "resumed_bytes": 0,
        "bandwidth_limit": 500,
        "downtime_seconds": 12.5,
    }
    assert moved["precopy"] == {"wanted": True, "reason": "it takes long", "rounds": 2, "bytes": 4 * MIB, "ended": "little is left", "quiesced": False}
    assert moved["new_flavor"] == LARGE
    assert [type(moved[name]) for name in ("overlay_bytes", "downtime_seconds")] == [int, float]
    assert migration.lines(moved)[-1].startswith("web1 runs on kvm2 with flavor large, was down for 12.5 s, 72.0 MiB copied")


def test_the_last_line_says_where_it_is_and_what_waits_until_when() -> None:
    off = {"received_at": 1.0, "answered_at": 1.0, "stopped": {"requested_at": None, "was_running": False, "method": None}}
    started = {**told()["started"], "timings": {"started_at": None}, "bytes_transferred": None}
    moved = migration.moved(PLAN, "kvm2", "u", told(sealed=off, started=started, obtained=[]), 3600)
    line = migration.lines(moved)[-1]
    assert "web1 is off on kvm2 with flavor large, nothing copied" in line
    assert "waits for your confirm or revert, until auto_confirm confirms it after 20" in line
    assert moved["downtime_seconds"] is None


@pytest.mark.parametrize(
    ("status", "outcome", "said"),
    [
        ("nothing_to_do", "nothing_to_do", "There was nothing to do for web1"),
        ("error", "undone", "it is as before on kvm1"),
        ("unknown", "open", "still open"),
        ("confirmed", "confirmed", "web1 stays on kvm2"),
        ("reverted", "reverted", "web1 is back on kvm1"),
        ("finished", "moved", "waits for confirm or revert"),
    ],
)
def test_each_end_has_an_outcome_and_a_sentence(status: str, outcome: str, said: str) -> None:
    ended = migration.ended({"instance_name": "web1", "migration_uuid": "u", "source": "kvm1", "destination": "kvm2", "in_place": False}, status, "so it is.")
    assert (ended["status"], ended["outcome"], ended["reason"]) == (status, outcome, "so it is.")
    (line,) = migration.lines(ended)
    assert said in line
    assert line.endswith("(so it is).")


def test_a_plan_is_told_without_the_definition_of_the_guest() -> None:
    rejected = {"kvm3": [{"filter": "ZoneFilter", "reason": "is in zone south"}]}
    ranked = [{"host": "kvm2", "weight": "0.5"}, {"host": "kvm1", "weight": 0.25}]
    placement = {"selected": "kvm2", "alternates": ["kvm1"], "ranked": ranked, "rejected": rejected}
    known = {
        **PLAN,
        "message": "Plan: resize web1",
        "candidates": ["kvm2"],
        "diff": {"before": {"host": "kvm1"}, "after": {"host": "kvm2"}},
        "for": {
            "kvm2": {
                "precopy": {"wanted": False, "reason": "it is quick"},
                "storage": [{"text": "vda: copied"}],
                "requirements": {"xml": "<domain/>"},
            },
        },
        "references_text": ["bridge br0: kept"],
        "placement": placement,
        "grow_filesystem": None,
    }
    planned = plan.planned(known, "web1")
    assert planned["hosts"] == {"kvm2": ["selected, weight 0.50"], "kvm1": ["alternate, weight 0.25"], "kvm3": ["ZoneFilter: is in zone south"]}
    assert (planned["destination"], planned["disks"], planned["references"]) == ("kvm2", ["vda: copied"], ["bridge br0: kept"])
    assert "<domain" not in str(planned)
    nothing = plan.planned({"action": "none", "message": "already", "source": "kvm1", "candidates": [], "diff": {}, "record": None, "placement": None}, "web1")
    assert (nothing["instance"], nothing["destination"], nothing["hosts"]) == ("web1", None, {})


def test_what_was_kept_or_dropped_of_a_running_guest_is_named() -> None:
    for answer, words in (("keep", "Kept, and in its definition now: disk vdb"), ("drop", "Gone with the restart, as its definition says: disk vdb")):
        live = {"answer": answer, "found": ["disk vdb: /x now, not there by the definition"]}
        artifact = migration.moved({**PLAN, "live_differences": live}, "kvm2", "m-1", told())
        assert artifact["live_differences"] == live
        assert words in " ".join(" ".join(migration.lines(artifact)).split())
