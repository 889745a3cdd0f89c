# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a plan is: every key, and which file of this folder decides it. Check mode, diff, the printed table, the run and both hosts read it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypedDict, cast

NONE, IN_PLACE, MOVE = "none", "in_place", "move"


class ForHost(TypedDict, total=False):
    """What a move to one candidate, or the growth on it, needs to know of it; nothing of that is worked out once more."""

    ratios: dict[str, float]
    """Allocation ratios cpu, ram, disk that placement applied, for the claim."""
    storage: list[dict[str, Any]]
    """Where each disk comes to lie there, and why (`storage`)."""
    mappings: Mapping[str, Mapping[str, str]]
    """What it calls otherwise than the source (`mapping`)."""
    requirements: dict[str, Any]
    """What the guest needs of it, in its words (`needs`)."""
    precopy: dict[str, Any]
    """Whether the disks go ahead while the guest runs, and why (`precopy`); not in place."""

    # By its facts and what the inventory says (`per_host`). From `max_moves` on there is nothing in place.
    images_path: str
    image_directories: list[str]
    """All directories in which disks and base images of guests may lie there."""
    reserved: dict[str, int]
    cpu_dedicated_set: str
    max_moves: int
    """Guests that may come at once; 0 is no limit."""
    outdated: list[str]
    """Variables of which the inventory says something else by now than its facts."""
    source_address: str
    """Where it finds the source, unless a claim knows better."""
    peer: str
    """The address from which it comes to the channel, where the inventory knows."""
    bandwidth_limit: int
    """Bytes a second that hold for the move; 0 is no limit."""
    base_sources: list[dict[str, Any]]
    """Where it may get each base image from, in the order to try (`bases`), with `name`, `address` and `bandwidth_limit`."""


class AtSource(TypedDict):
    """What the inventory says of the source (`per_host`)."""

    image_directories: list[str]
    max_moves: int
    """Guests that may leave at once; 0 is no limit."""


_For = TypedDict("_For", {"for": dict[str, ForHost]})


class Plan(_For):  # pylint: disable=inherit-non-class
    """One resize or cold migration, decided. `migration` puts it together; `for` has what each of `candidates` needs."""

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
    at_source: AtSource | None
    """What the inventory says of the source; None where it was not asked, or if there is nothing to do."""
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
        "for": {},
        "at_source": None,
        "references": [],
        "references_text": [],
        "live_differences": {"answer": None, "found": []},
        "record": None,
        "grow_filesystem": None,
    }
    return cast(Plan, {"action": action, "message": message, "source": source, "diff": diff, **nothing, **decided})
