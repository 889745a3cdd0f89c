# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Raw values of hosts turned into one order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.host_state import HostState
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.weighers.base import Weigher


class Weighed(NamedTuple):
    """A host with its weight and what each weigher contributed."""

    host: str
    weight: float
    weights: dict[str, dict[str, float]]


def weigh(hosts: Sequence[HostState], weighers: Sequence[Weigher]) -> list[Weighed]:
    """Heaviest first; ties keep the order given. A single host needs no weighing: its weight is 0."""
    weights = [0.0] * len(hosts)
    columns: dict[str, list[dict[str, float]]] = {}
    told = {key for host in hosts for metadata in host.metadata for key in metadata}
    for weigher in weighers if len(hosts) > 1 else ():
        if not weigher.applies():
            continue
        raws = list(map(weigher.raw, hosts))
        shares = normalize(raws, weigher.minval, weigher.maxval)
        own = weigher.multiplier_key in told
        multipliers = list(map(weigher.multiplier, hosts)) if own else [weigher.default_multiplier] * len(hosts)
        weights = [weight + multiplier * share for weight, multiplier, share in zip(weights, multipliers, shares)]
        columns[type(weigher).__name__] = [
            {"raw": raw, "normalized": share, "multiplier": multiplier} for raw, share, multiplier in zip(raws, shares, multipliers)
        ]
    parts = [dict(zip(columns, row)) for row in zip(*columns.values())] if columns else [{} for _host in hosts]
    weighed = [Weighed(host.name, weight, part) for host, weight, part in zip(hosts, weights, parts)]
    return sorted(weighed, key=lambda item: -item.weight)


def normalize(raws: Sequence[float], minval: float | None = None, maxval: float | None = None) -> list[float]:
    """Scale to 0..1 between the bounds, or between the extremes where there is no bound; values beyond a bound count as the bound."""
    clamped = [raw if minval is None or raw > minval else minval for raw in raws]
    clamped = [raw if maxval is None or raw < maxval else maxval for raw in clamped]
    low = min(clamped) if minval is None else minval
    high = max(clamped) if maxval is None else maxval
    return [0.0 if high == low else (raw - low) / (high - low) for raw in clamped]
