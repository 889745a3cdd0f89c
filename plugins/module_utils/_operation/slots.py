# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How many moves a host has in hand at once, out and in: counted from the open records of its journal, so that all controllers share one limit.

There is no counter that could be left behind. A move waits before it begins, and before it claims its destination, while its guest runs. Whoever has
claimed a destination waits for no slot any more, so that two hosts which are drained toward each other never wait for one another.
"""

from __future__ import annotations

from typing import Any

from .._channel.export import Server
from .._journal import claims as _claims, maintenance as _maintenance, progress as _progress
from .._journal.records import Journal
from .._rules.errors import KvmfleetError

IN_HAND = ("pre-migrating", "migrating", "post-migrating")
_WAY = {"source": "out", "destination": "in"}


def begin(journal: Journal, record: dict[str, Any], most: int) -> dict[str, Any]:
    """Begin an operation on the host where its guest is.

    :param most: how many moves this host has in hand at once, out of it; 0 for no limit.
    :raises KvmfleetError: `busy`, and those of `_journal.maintenance.require_part` and of `Journal.begin`.
    """
    with journal.state.lock(_claims.LOCK):
        _maintenance.require_part(journal.state, record.get("part_of"))
        require_free(journal, record, most)
        return journal.begin(record)


def require_free(journal: Journal, record: dict[str, Any], most: int) -> None:
    """The host has fewer moves in hand than it may, in the direction of the record. Called under the lock of admissions.

    :raises KvmfleetError: `busy`; `seen` in its details is another one whenever anything of these moves has got on.
    """
    if not most or record["role"] not in _WAY:
        return
    others = [other for other in journal.all() if other["role"] == record["role"] and other["status"] in IN_HAND and other["uuid"] != record["uuid"]]
    if len(others) < most:
        return
    way = _WAY[record["role"]]
    named = ", ".join(f"{other['instance_name']} ({other['status']})" for other in others)
    raise KvmfleetError(
        "busy",
        f"{record['instance_name']} has to wait: this host has {len(others)} moves {way} in hand ({named}), and {most} at once are allowed "
        f"(kvmfleet_max_moves_{way}).",
        have=len(others),
        limit=most,
        operations=[other["uuid"] for other in others],
        seen=[[other["uuid"], other["updated_at"], (_progress.read(journal.state, other["uuid"]) or {}).get("bytes_done")] for other in others],
        # An export that nobody reads from ends by itself, so one that is there gets on.
        moving=any(Server(journal.state, other["uuid"]).port is not None for other in others),
    )
