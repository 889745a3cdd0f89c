# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One decision by both schedulers, side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.select import select_destinations
from bench.placement import nova_scheduler


class Verdict(NamedTuple):
    """The order of hosts, their weights, and what each filter refuses of all hosts."""

    order: list[str]
    weights: list[float]
    rejected: dict[str, set[str]]


def by_nova(hosts: Sequence[Mapping[str, Any]], request: Mapping[str, Any], filters: Sequence[str], weighers: Mapping[str, float]) -> Verdict:
    manager = nova_scheduler.Manager(filters, weighers)
    manager.load(hosts)
    states, spec = manager.states(), nova_scheduler.request_spec(request, hosts)
    rejected = manager.rejected(states, spec)
    weighed = manager.decide(states, spec)
    return Verdict([item.obj.host for item in weighed], [item.weight for item in weighed], rejected)


def by_us(hosts: Sequence[Mapping[str, Any]], request: Mapping[str, Any], filters: Sequence[str], weighers: Mapping[str, float], **options: Any) -> Verdict:
    answer = select_destinations(hosts, request, {"preset": "article", "enabled_filters": list(filters), "weighers": dict(weighers), **options})
    rejected = {name: set() for name in filters}
    for host, reasons in answer["rejected"].items():
        for reason in reasons:
            rejected.setdefault(reason["filter"], set()).add(host)
    return Verdict([item["host"] for item in answer["ranked"]], [item["weight"] for item in answer["ranked"]], rejected)


def differences(ours: Verdict, nova: Verdict) -> list[str]:
    """What is not the same; empty when all is."""
    found = [
        f"{name}: only ours {sorted(ours.rejected[name] - theirs)[:5]}, only Nova's {sorted(theirs - ours.rejected[name])[:5]}"
        for name, theirs in nova.rejected.items()
        if ours.rejected[name] != theirs
    ]
    if ours.order != nova.order:
        found.append(f"order: {ours.order[:5]} ({len(ours.order)}), Nova {nova.order[:5]} ({len(nova.order)})")
    found += [f"weight of {name}: {own!r}, Nova {other!r}" for name, own, other in zip(ours.order, ours.weights, nova.weights) if not _close(own, other)]
    return found


def _close(own: float, other: float) -> bool:
    """To 1e-9, of the greater of 1 and the weight: a multiplier may be a million."""
    return abs(own - other) <= 1e-9 * max(1.0, abs(other))
