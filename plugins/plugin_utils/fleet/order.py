# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""In which order guests move: the canary, those that are off, then the rest in turn over sources and destinations, each time the longest of them.

A guest that waits for its host holds one of the run's slots: what is mixed well waits for nobody.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from ansible_collections.kvmfleet.compute.plugins.module_utils._rules.errors import KvmfleetError
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.fleet.groups import Groups
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.fleet.programme import OFF, RUNNING, Move

_CANARY, _OFF, _REST = range(3)


def ordered(moves: Sequence[Move], after: Mapping[str, Iterable[str]], groups: Groups, lanes: Mapping[str, int], canaries: int) -> list[Move]:
    """The moves with `order`, `after` and `canary`.

    :param after: UUID -> UUIDs of those that have to run again before it begins; others than these moves are left out.
    :param lanes: how many running members of a group may move at once; :param canaries: how many go alone before all others.
    :raises KvmfleetError: `after_cycle`.
    """
    known = {move.guest.uuid: move for move in moves}
    before = {uuid: {other for other in after.get(uuid, ()) if other in known and other != uuid} for uuid in known}
    first = _canaries(moves, before, canaries)
    for uuid in known.keys() - first:
        before[uuid] |= first
    stage = {uuid: _CANARY if uuid in first else _OFF if move.guest.downtime == OFF else _REST for uuid, move in known.items()}
    sequence = _sequence(known, stage, before)
    lined = _in_lanes(sequence, groups, lanes)
    return [
        replace(move, order=number, canary=move.guest.uuid in first, after=tuple(sorted(before[move.guest.uuid] | lined.get(move.guest.uuid, set()))))
        for number, move in enumerate(sequence, 1)
    ]


def _canaries(moves: Sequence[Move], before: Mapping[str, set[str]], wanted: int) -> set[str]:
    """The smallest that run, and wait for nobody. A guest that is off proves nothing."""
    running = [move for move in moves if move.guest.downtime == RUNNING and not before[move.guest.uuid] and not move.ejection]
    smallest = sorted(running, key=lambda move: (move.seconds, move.guest.wants.ram_bytes, move.guest.instance, move.guest.uuid))
    return {move.guest.uuid for move in smallest[:wanted]}


def _sequence(known: Mapping[str, Move], stage: Mapping[str, int], before: Mapping[str, set[str]]) -> list[Move]:
    """One after the other, each time among those whose predecessors have their place already."""
    left, done = dict(known), set[str]()
    work: dict[tuple[str, str], float] = {}
    found: list[Move] = []

    def key(move: Move) -> tuple[int, float, float, float, str, str]:
        uuid = move.guest.uuid
        busiest = max(work.get(("out", move.guest.host), 0.0), work.get(("in", move.destination), 0.0))
        return stage[uuid], -move.guest.priority, busiest, -move.seconds, move.guest.instance, uuid

    while left:
        ready = [move for uuid, move in left.items() if before[uuid] <= done]
        if not ready:
            names = sorted(move.guest.instance for move in left.values())
            raise KvmfleetError("after_cycle", f"after: {', '.join(names)} wait for each other, so that none of them can be first.", instances=names)
        move = min(ready, key=key)
        found.append(left.pop(move.guest.uuid))
        done.add(move.guest.uuid)
        for end in (("out", move.guest.host), ("in", move.destination)):
            work[end] = work.get(end, 0.0) + max(1.0, move.seconds)
    return found


def _in_lanes(sequence: Sequence[Move], groups: Groups, lanes: Mapping[str, int]) -> dict[str, set[str]]:
    """Where two members may be down at once, each waits for the one before the one before it, and so on for other numbers."""
    lined: dict[str, list[str]] = {}
    waits: dict[str, set[str]] = {}
    for move in sequence:
        group = groups.group(move.guest.uuid)
        if group is None or group.name not in lanes or move.guest.downtime == OFF:
            continue
        lane = lined.setdefault(group.name, [])
        limit = lanes[group.name]
        if len(lane) >= limit:
            waits[move.guest.uuid] = {lane[-limit]}
        lane.append(move.guest.uuid)
    return waits
