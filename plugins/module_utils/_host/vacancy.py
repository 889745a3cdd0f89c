# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether a host is evacuated, so that it may be rebooted, or empty, so that it may be wiped: as libvirt and the journal say, not as a plan has it."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from .._journal.records import CLOSED, Journal, may_be_needed
from .._libvirt import domains as _domains
from .._rules.errors import KvmfleetError

_AT_WORK = ("pre-migrating", "migrating", "post-migrating", "reverting")


def require_evacuated(conn: Any, journal: Journal, left: Collection[str] = ()) -> None:
    """Nothing can start here but what is named, and nothing is about to come.

    :param left: names or UUIDs of guests that stay here by somebody's word.
    :raises KvmfleetError: `not_evacuated`.
    """
    guests = sorted(domain.name() for domain in _domains.all_domains(conn) if not {domain.name(), domain.UUIDString()} & set(left))
    at_work = [record for record in journal.all() if record["status"] in _AT_WORK]
    told = [f"{', '.join(guests)} can start here" if guests else "", f"{_operations(at_work)} not ended" if at_work else ""]
    if guests or at_work:
        raise KvmfleetError(
            "not_evacuated",
            f"This host is not evacuated: {'; '.join(filter(None, told))}.",
            guests=guests,
            operations=[record["uuid"] for record in at_work],
        )


def require_empty(conn: Any, journal: Journal) -> None:
    """No guest is defined here, and nothing of any waits for an end: no copy that a revert would need, and no claim.

    :raises KvmfleetError: `not_empty`.
    """
    guests = sorted(domain.name() for domain in _domains.all_domains(conn))
    waiting = [record for record in journal.all() if record["status"] not in CLOSED or may_be_needed(record)]
    known = {record["uuid"] for record in waiting}
    claims = [claim for claim in journal.state.read_all("claims") if claim["migration_uuid"] not in known]
    told = [
        f"{', '.join(guests)} can start here" if guests else "",
        f"{_operations(waiting)} not confirmed, reverted or recovered" if waiting else "",
        f"{', '.join(claim['instance_name'] for claim in claims)} has a claim here" if claims else "",
    ]
    if any(told):
        raise KvmfleetError(
            "not_empty",
            f"This host is not empty: {'; '.join(filter(None, told))}.",
            guests=guests,
            operations=[record["uuid"] for record in waiting] + [claim["migration_uuid"] for claim in claims],
        )


def _operations(records: Collection[dict[str, Any]]) -> str:
    named = ", ".join(f"{record['instance_name']} ({record['status']})" for record in records)
    return f"the operation{'s' if len(records) > 1 else ''} on {named} {'are' if len(records) > 1 else 'is'}"
