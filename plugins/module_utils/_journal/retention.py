# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How long a host remembers: records of operations that have ended, and lock files that nobody has used, go when they are old enough.

An open record never goes, and neither does one of an operation that was ended without a host that was given up as lost: should that host come back,
this record is what says that its copy is not to be used. Once the host has been seen without anything of it, the record ages like any other.
"""

from __future__ import annotations

import contextlib
import time
from typing import Any

from .._rules.errors import KvmfleetError
from .records import CLOSED, may_be_needed
from .state_dir import StateDir

DAY = 86400.0


def prune(state: StateDir, days: float, *, dry_run: bool = False) -> dict[str, list[str]]:
    """Remove what is older than so many days; 0 removes nothing.

    :param dry_run: only say what would go.
    :returns: `records` (UUIDs of operations) and `locks` (names).
    """
    if days <= 0:
        return {"records": [], "locks": []}
    before = time.time() - days * DAY
    records = [record["uuid"] for record in state.read_all("migrations") if _is_over(record, before)]
    if not dry_run:
        records = [uuid for uuid in records if _remove(state, uuid, before)]
    return {"records": records, "locks": state.remove_unused_locks(before, dry_run=dry_run)}


def _is_over(record: dict[str, Any], before: float) -> bool:
    return record["status"] in CLOSED and record["updated_at"] < before and not may_be_needed(record)


def _remove(state: StateDir, uuid: str, before: float) -> bool:
    """Under the record's lock, and by what it says then; one that somebody works on is left for the next time."""
    with contextlib.suppress(KvmfleetError), state.lock(f"migration-{uuid}", timeout=0):
        record = state.read("migrations", uuid)
        return record is not None and _is_over(record, before) and state.remove("migrations", uuid)
    return False
