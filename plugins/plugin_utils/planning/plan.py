# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a plan is: every key, and which file of this folder decides it. Check mode, diff, the printed table, the run and both hosts read it."""

from __future__ import annotations

from typing import Any, TypedDict, cast

NONE, IN_PLACE, MOVE = "none", "in_place", "move"


class Plan(TypedDict):
    """One resize or cold migration, decided. `migration` puts it together; keys with a value a host have one for each of `candidates`."""

    action: str
    """NONE, IN_PLACE or MOVE."""
    message: str
    """What it comes to, in a sentence."""
    source: str
    """The host that defines the guest, as the inventory calls it."""
    candidates: list[str]
    """Destinations in the order in which they are asked; the source itself in place; none if there is nothing to do."""
    placement: dict[str, Any] | None
    """The scheduler's answer, with what it was asked as `request`."""
    ratios: dict[str, dict[str, float]]
    """A host: allocation ratios cpu, ram, disk that placement applied, for the claim."""
    storage: dict[str, list[dict[str, Any]]]
    """A host: where each disk comes to lie there, and why (`storage`)."""
    mappings: dict[str, dict[str, dict[str, str]]]
    """A host: what it calls otherwise than the source (`mapping`)."""
    requirements: dict[str, dict[str, Any]]
    """A host: what the guest needs of it, in its words (`needs`)."""
    precopy: dict[str, dict[str, Any]]
    """A host: whether the disks go ahead while the guest runs, and why (`precopy`); empty in place."""
    references: list[dict[str, str]]
    """What the definition refers to outside itself, and what the move does about it (`references`); empty in place."""
    references_text: list[str]
    """The same in lines, without the disks."""
    live_differences: dict[str, Any]
    """`answer` (keep, drop, None) and what was `found`, in words (`guest`)."""
    record: dict[str, Any] | None
    """What both journals hold of it (`record`, `_journal.record`)."""
    diff: dict[str, Any]
    """Host and flavor, before and after."""
    grow_filesystem: str | None
    """Target of the disk whose filesystem is to be grown inside the guest afterwards."""


def born(action: str, message: str, source: str, diff: dict[str, Any], **decided: Any) -> Plan:
    """A plan. What was not decided is what it is where there is nothing to do."""
    nothing: dict[str, Any] = {
        "candidates": [],
        "placement": None,
        "ratios": {},
        "storage": {},
        "mappings": {},
        "requirements": {},
        "precopy": {},
        "references": [],
        "references_text": [],
        "live_differences": {"answer": None, "found": []},
        "record": None,
        "grow_filesystem": None,
    }
    return cast(Plan, {"action": action, "message": message, "source": source, "diff": diff, **nothing, **decided})
