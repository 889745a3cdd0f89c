# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Raw values of hosts turned into one order."""

from __future__ import annotations

from collections.abc import Sequence
from operator import itemgetter
from typing import TypedDict

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.fleet_state import FleetState
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.weighers.base import Weigher


class Weighed(TypedDict):
    """A host with its weight and what each weigher contributed."""

    host: str
    weight: float
    weights: dict[str, dict[str, float]]


def weigh(fleet: FleetState, rows: Sequence[int], weighers: Sequence[Weigher]) -> list[Weighed]:
    """The hosts in these rows, heaviest first; ties keep the order given. A single host needs no weighing: its weight is 0."""
    weights = [0.0] * len(rows)
    columns: dict[str, list[dict[str, float]]] = {}
    for weigher in weighers if len(rows) > 1 else ():
        if not weigher.applies():
            continue
        raws = weigher.raws(fleet, rows)
        shares = normalize(raws, weigher.minval, weigher.maxval)
        multipliers = weigher.multipliers(fleet, rows)
        weights = [weight + multiplier * share for weight, multiplier, share in zip(weights, multipliers, shares)]
        columns[type(weigher).__name__] = [
            {"raw": raw, "normalized": share, "multiplier": multiplier} for raw, share, multiplier in zip(raws, shares, multipliers)
        ]
    parts = [dict(zip(columns, row)) for row in zip(*columns.values())] if columns else [{} for _row in rows]
    names = fleet.names
    weighed: list[Weighed] = [{"host": names[row], "weight": weight, "weights": part} for row, weight, part in zip(rows, weights, parts)]
    return sorted(weighed, key=itemgetter("weight"), reverse=True)


def normalize(raws: Sequence[float], minval: float | None = None, maxval: float | None = None) -> list[float]:
    """Scale to 0..1 between the bounds, or between the extremes where there is no bound; values beyond a bound count as the bound."""
    least, most = min(raws), max(raws)
    low = least if minval is None else minval
    high = maxval if maxval is not None else max(most, low)
    if minval is None:
        low = min(low, high)
    if high == low:
        return [0.0] * len(raws)
    width = high - low
    if low <= least and most <= high:
        return [(raw - low) / width for raw in raws]
    return [(min(max(raw, low), high) - low) / width for raw in raws]
