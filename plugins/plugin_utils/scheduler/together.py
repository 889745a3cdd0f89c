# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Placing several guests so that all of them fit: largest first, then those before all others that found no room, and at last every way there is.

What is placed is a unit: one guest, or several that have to come to the same host. Each unit sees the claims of those before it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.filters.base import Rejection
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.loaded_fleet import LoadedFleet
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.registry import filters_for
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.request import Request
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.select import decide

ROUNDS = 4
LOOKS = 4000
"""So often one host is asked for one guest in the last search, which may not find what there is in a large and tight fleet."""

Unit = Sequence[Request]


class Attempt(NamedTuple):
    """`placed` and `failed` are answers of `decide` by number of the unit, in the order in which they were made; `selected` is the host of the unit.

    `searched`: whether every way was tried, so that there is none, if something has failed.
    """

    fleet: LoadedFleet
    placed: dict[int, dict[str, Any]]
    failed: dict[int, dict[str, Any]]
    searched: bool = False


def place(fleet: LoadedFleet, units: Sequence[Unit]) -> Attempt:
    """The best that was found; the fleet given is not changed."""
    order = largest_first(fleet, units)
    best = attempt = _greedy(fleet.copy(), units, order)
    for _round in range(ROUNDS - 1):
        if not best.failed:
            return best
        order = [*attempt.failed, *(index for index in order if index not in attempt.failed)]
        attempt = _greedy(fleet.copy(), units, order)
        best = attempt if len(attempt.failed) < len(best.failed) else best
    return best if not best.failed else _every_way(fleet, units, best)


def largest_first(fleet: LoadedFleet, units: Sequence[Unit]) -> list[int]:
    """By the greatest share of the whole fleet's vCPUs, memory or disk; equal ones by name, so that the order in which they are given says nothing."""
    resources = (fleet.hosts.vcpus, fleet.hosts.memory_mb, fleet.hosts.disk_mb)
    totals = [sum(total for row, total in enumerate(resource.total) if row not in fleet.hosts.unknown) for resource in resources]

    def size(index: int) -> tuple[float, str]:
        needs = zip(*((each.flavor.vcpus, each.flavor.ram, each.flavor.disk_mb) for each in units[index]))
        return -max(sum(need) / (total or 1) for need, total in zip(needs, totals)), str(units[index][0].instance.name)

    return sorted(range(len(units)), key=size)


def rejections(fleet: LoadedFleet, host: str, request: Request) -> list[Rejection]:
    """Every reason of one host against one guest."""
    context = fleet.context(request)
    state = context.hosts[host]
    asked = [item for item in filters_for(context) if item.applies() and (state.known or not item.needs_facts)]
    return [reason for item in asked if (reason := item.rejection(state)) is not None]


def _greedy(fleet: LoadedFleet, units: Sequence[Unit], order: Sequence[int]) -> Attempt:
    attempt = Attempt(fleet, {}, {})
    for index in order:
        answer = _place_unit(fleet, units[index])
        (attempt.failed if answer["selected"] is None else attempt.placed)[index] = answer
    return attempt


def _place_unit(fleet: LoadedFleet, unit: Unit) -> dict[str, Any]:
    """The answer for the first of the unit, where the others of it fit beside it; the fleet is charged with all of them."""
    answer = decide(fleet.context(unit[0]))
    rejected = dict(answer["rejected"])
    for ranked in answer["ranked"]:
        trial = fleet.copy()
        against = _load(trial, ranked["host"], unit)
        if not against:
            fleet.hosts = trial.hosts
            return {**answer, "selected": ranked["host"], "rejected": rejected}
        rejected[ranked["host"]] = against
    return {**answer, "selected": None, "rejected": rejected}


def _load(fleet: LoadedFleet, host: str, unit: Unit) -> list[Rejection]:
    """Charge a host with a unit whose first guest fits there; the reasons against the first of the others that finds no room beside those before it."""
    for number, request in enumerate(unit):
        against = rejections(fleet, host, request) if number else []
        if against:
            return against
        fleet.claim(host, request)
    return []


class _Exhausted(Exception):
    """There were more ways than anybody can wait for."""


class _Search:
    """Backtracking: the unit with the fewest hosts left goes first, and a host that takes it must leave one for each other unit."""

    def __init__(self, units: Sequence[Unit]) -> None:
        self.units = units
        self.looks = LOOKS

    def ways(self, fleet: LoadedFleet, hosts: Mapping[int, Sequence[str]]) -> dict[int, str] | None:
        """The host of each unit, or None where there is no way; `hosts` are those that each fits on now."""
        if not hosts:
            return {}
        index = min(hosts, key=lambda unit: (len(hosts[unit]), unit))
        for name in hosts[index]:
            loaded = fleet.copy()
            if _load(loaded, name, self.units[index]):
                continue
            narrowed = {other: self._left(loaded, name, other, left) for other, left in hosts.items() if other != index}
            if all(narrowed.values()) and (found := self.ways(loaded, narrowed)) is not None:
                return {index: name, **found}
        return None

    def _left(self, loaded: LoadedFleet, name: str, unit: int, hosts: Sequence[str]) -> Sequence[str]:
        return hosts if name not in hosts or self._fits(loaded.copy(), name, unit) else [host for host in hosts if host != name]

    def _fits(self, fleet: LoadedFleet, name: str, unit: int) -> bool:
        self.looks -= len(self.units[unit])
        if self.looks < 0:
            raise _Exhausted
        return not rejections(fleet, name, self.units[unit][0]) and not _load(fleet, name, self.units[unit])


def _every_way(fleet: LoadedFleet, units: Sequence[Unit], best: Attempt) -> Attempt:
    """What the greedy rounds did not find, if it is there and can be found in time."""
    alone = {index: _place_unit(fleet.copy(), unit) for index, unit in enumerate(units)}
    if any(answer["selected"] is None for answer in alone.values()):
        return best._replace(searched=True)
    hosts = {index: [ranked["host"] for ranked in answer["ranked"] if ranked["host"] not in answer["rejected"]] for index, answer in alone.items()}
    try:
        found = _Search(units).ways(fleet, hosts)
    except _Exhausted:
        return best
    if found is None:
        return best._replace(searched=True)
    loaded = fleet.copy()
    for index, name in found.items():
        for request in units[index]:
            loaded.claim(name, request)
    return Attempt(loaded, {index: _chosen(alone[index], name) for index, name in found.items()}, {}, True)


def _chosen(answer: dict[str, Any], name: str) -> dict[str, Any]:
    return {**answer, "selected": name, "alternates": [other for other in answer["alternates"] if other != name]}
