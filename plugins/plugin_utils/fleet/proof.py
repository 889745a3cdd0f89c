# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A place for every guest that is to leave, all of them together: charged at their destinations and, until somebody confirms, at their sources too."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.planning import maintenance
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.planning.fleet import Fleet
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler import together
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.loaded_fleet import LoadedFleet
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.options import Options
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.request import Request

CAPACITIES = {"vcpus": "vcpus", "ram": "memory_mb", "disk": "disk_mb"}
"""Code of a rejection for want of room, and the column that it is about."""


@dataclass(frozen=True)
class Asked:
    """A guest that is to be placed: `group` is the name of a group that has to come to one host as a whole, or None."""

    uuid: str
    request: Request
    group: str | None = None


@dataclass(frozen=True)
class Placed:
    """Where a guest goes, and why there: `alternates` would do as well, `fitting` hosts had room."""

    uuid: str
    host: str
    alternates: tuple[str, ...]
    reason: str


@dataclass(frozen=True)
class Ejected:
    """A guest of another host that has to go first, for good, so that there is room for `makes_room_for`."""

    uuid: str
    host: str
    placed: Placed
    makes_room_for: str


@dataclass(frozen=True)
class Proof:
    """`unplaced` are the reasons of every host, by UUID; `searched`: whether every way was tried."""

    placed: dict[str, Placed]
    unplaced: dict[str, Mapping[str, Any]]
    ejected: tuple[Ejected, ...]
    searched: bool
    fleet: LoadedFleet


def loaded(fleet: Fleet, without: Collection[str], options: Options) -> LoadedFleet:
    """The hosts as they will be when all that drains of other hosts promise has come true.

    :param without: the hosts that are planned anew.
    """
    states = LoadedFleet(list(fleet.hosts.values()), options)
    for promise in maintenance.promises(fleet, without):
        if states.hosts[promise.destination].known:
            states.claim(promise.destination, _promised(promise))
    return states


def prove(states: LoadedFleet, asked: Sequence[Asked], ejectable: Sequence[Asked] = ()) -> Proof:
    """Place all of them.

    :param states: see `loaded`; :param ejectable: guests of other hosts that may be moved first where all else fails.
    """
    units = _units(asked)
    attempt = together.place(states, [[each.request for each in unit] for unit in units])
    placed = {each.uuid: _placed(each, attempt.placed[index]) for index in attempt.placed for each in units[index]}
    unplaced: dict[str, Mapping[str, Any]] = {each.uuid: attempt.failed[index] for index in attempt.failed for each in units[index]}
    proof = Proof(placed, unplaced, (), attempt.searched, attempt.fleet)
    for index in attempt.failed:
        if len(units[index]) == 1:
            proof = _ejecting(proof, units[index][0], ejectable)
    return proof


def _units(asked: Sequence[Asked]) -> list[list[Asked]]:
    """What has to come to one host goes as one, the largest first, so that those after it fit beside it."""
    units: dict[str, list[Asked]] = {}
    for each in sorted(asked, key=lambda each: (-each.request.flavor.ram, str(each.request.instance.name), each.uuid)):
        units.setdefault(each.uuid if each.group is None else f"group {each.group}", []).append(each)
    return list(units.values())


def _placed(asked: Asked, answer: Mapping[str, Any]) -> Placed:
    best = next((ranked for ranked in answer["ranked"] if ranked["host"] == answer["selected"]), None)
    weight = "" if best is None else f", weight {best['weight']:.2f}"
    count = len(answer["ranked"])
    with_it = f", where all of the group {asked.group} goes" if asked.group else ""
    reason = f"{count} host{'s' if count != 1 else ''} had room{weight}{with_it}"
    return Placed(asked.uuid, answer["selected"], tuple(answer["alternates"]), reason)


def _promised(promise: maintenance.Promise) -> Request:
    entry = promise.entry
    flavor = {"vcpus": max(1, entry.get("vcpus") or 1), "ram": max(1, entry.get("memory_mb") or 1), "disk": entry.get("disk_gb") or 0}
    return Request.build({"instance": {"name": entry["name"], "uuid": entry["uuid"], "host": promise.host}, "flavor": flavor})


def _ejecting(proof: Proof, wanted: Asked, ejectable: Sequence[Asked]) -> Proof:
    """One step: a guest that has another place, and whose leaving makes enough room. The smallest will do."""
    gone = {each.uuid for each in proof.ejected}
    rejected = proof.unplaced[wanted.uuid]["rejected"]
    for guest in sorted(ejectable, key=lambda each: (each.request.flavor.ram, each.request.flavor.vcpus, each.uuid)):
        host = str(guest.request.instance.host)
        reasons = rejected.get(host)
        if guest.uuid in gone or not reasons or any(reason["code"] not in CAPACITIES for reason in reasons):
            continue
        without = _without(proof.fleet, guest)
        if together.rejections(without, host, wanted.request):
            continue
        moved = together.place(without, [[guest.request]])
        if moved.failed:
            continue
        moved.fleet.claim(host, wanted.request)
        placed = replace(_placed(wanted, {**proof.unplaced[wanted.uuid], "selected": host}), reason=f"once {guest.request.instance.name} has made room there")
        return Proof(
            placed={**proof.placed, wanted.uuid: placed},
            unplaced={uuid: answer for uuid, answer in proof.unplaced.items() if uuid != wanted.uuid},
            ejected=(*proof.ejected, Ejected(guest.uuid, host, _placed(guest, moved.placed[0]), wanted.uuid)),
            searched=proof.searched,
            fleet=moved.fleet,
        )
    return proof


def _without(states: LoadedFleet, guest: Asked) -> LoadedFleet:
    """The fleet without the charge of a guest at its host, as it is once its move is confirmed."""
    freed = states.copy()
    freed.release(str(guest.request.instance.host), guest.request.instance.uuid or "", guest.request.flavor)
    return freed
