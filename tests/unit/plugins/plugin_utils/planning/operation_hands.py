# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What other people make of the files of a guest that `operation_model` moves: what lies over them, stands on them or has them, and what that is worth.

Each act is on one disk of the guest, on the host where the guest is, and on the file that its definition names then: a layer of ours or the file of
the disk; or on the sealed file that somebody finds.
"""

from __future__ import annotations

from typing import NamedTuple

SNAPSHOT, DETACHED, ELSEWHERE, CLONE = "snapshot", "detached", "elsewhere", "clone"
HANG = "hang"
HANDS = (SNAPSHOT, DETACHED, ELSEWHERE, CLONE, HANG)
LAYER, FILES = "layer", "files"  # of a sealed or of an own copy: its name changes, what stands on it by that name is lost with it
CHANGES_THE_DEFINITION = (SNAPSHOT, DETACHED, ELSEWHERE)
OF_OTHERS = (ELSEWHERE, CLONE)  # what another guest needs, which is there while this one is stopped and after it has been discarded


class Use(NamedTuple):
    """`on`: the file that it is about, layer or files; `sealed`: that bore its sealed name then."""

    kind: str
    on: str
    sealed: bool = False


def is_changed(use: Use | None) -> bool:
    """`_operation.sealing.require_unchanged`: the definition is not that of the plan."""
    return use is not None and use.kind in CHANGES_THE_DEFINITION


def keeps(use: Use | None, on: str) -> bool:
    """`_storage.files` and `_storage.merging`: whether somebody's use of a file keeps it from being renamed, merged away or removed.

    A snapshot of the guest itself counts as long as it lies over a layer of ours, since that is merged under a guest that stays.
    """
    return use is not None and use.on == on and (use.kind in OF_OTHERS or on == LAYER)


def is_lost(use: Use | None, on: str, *, discarded: bool = False) -> bool:
    """Whether somebody loses something when a file goes or bears another name.

    :param discarded: with all that the guest has there, by a revert or since the guest never ran there.
    """
    return use is not None and use.on == on and not (discarded and use.kind not in OF_OTHERS)
