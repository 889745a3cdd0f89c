# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How long ago something was, by the one clock that noted it: times of different machines are never compared.

A journal is written by its host's own clock, and its facts tell the time by that clock. Where the clock was set since, both ends of an operation, or a
time that has not come yet, tell.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.planning.fleet import Fleet

BACK = 5.0
"""Seconds by which a clock may be corrected without being talked about."""
APART = 300.0
"""Seconds by which both ends of an operation may differ about when it was finished."""


def age(fleet: Fleet, record: Mapping[str, Any]) -> float | None:
    """Seconds since the record was written; None where its host does not tell the time. Negative where its clock was set back since."""
    now = fleet.hosts[record["host"]].get("now")
    return None if now is None else float(now) - float(record["updated_at"])


def leased(fleet: Fleet, record: Mapping[str, Any]) -> float | None:
    """Seconds for which the run that wrote the record still counts as one that works on it; None where its host does not tell the time."""
    now = fleet.hosts[record["host"]].get("now")
    return None if now is None else float(record.get("lease_until") or 0) - float(now)


def youngest(fleet: Fleet, records: Collection[Mapping[str, Any]]) -> float | None:
    """Seconds since the latest record was written; None where one host does not tell the time."""
    ages = [age(fleet, record) for record in records]
    return None if None in ages or not ages else min(known for known in ages if known is not None)


def latest(fleet: Fleet, records: Collection[Mapping[str, Any]]) -> Mapping[str, Any]:
    """The record that was written last."""

    def order(record: Mapping[str, Any]) -> tuple[bool, float]:
        known = age(fleet, record)
        return (True, -float(record["updated_at"])) if known is None else (False, known)

    return min(records, key=order)


def remark(fleet: Fleet, records: Collection[Mapping[str, Any]]) -> str | None:
    """Whose clock was set since it was noted that an operation is finished, as far as that shows."""
    ages = {record["host"]: known for record in records if (known := age(fleet, record)) is not None}
    for host, known in ages.items():
        if known < -BACK:
            return f"the clock of {host} was set back: its journal has a time that comes in {-known:.0f} s"
    if len(ages) > 1 and {record["status"] for record in records} == {"finished"} and max(ages.values()) - min(ages.values()) > APART:
        said = ", ".join(f"{known:.0f} s ago by that of {host}" for host, known in ages.items())
        return f"a clock was set since it was finished: {said}; the shorter time counts"
    return None
