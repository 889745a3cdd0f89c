# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Several requests placed together: the answer proves room for all of them, or names those that there is none for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.loaded_fleet import LoadedFleet
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.options import Options
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.request import Request
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.select import decide
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.validation import ValidationError, sequence

ROUNDS = 4


class _Attempt(NamedTuple):
    fleet: LoadedFleet
    placed: list[dict[str, Any]]
    unplaced: list[dict[str, Any]]
    failed: list[int]


def place_together(hosts: object, requests: object, scheduler: object = None) -> dict[str, Any]:
    """Place a list of requests, each seeing the claims of those before it.

    The largest is placed first. If some find no room, they are tried again before all others, a few times over; the round that places most counts.

    :return: `fits`, `placements` and `unplaced` in the order in which they were decided, `usage` of the hosts that got a guest, `message`.
    :raises ValidationError: an argument is malformed.
    """
    options = Options.build(scheduler)
    asked = [_read(index, request) for index, request in enumerate(sequence("requests", requests))]
    order = _largest_first(LoadedFleet(hosts, options), asked)
    best = None
    for _round in range(ROUNDS):
        attempt = _place(LoadedFleet(hosts, options), asked, order)
        if best is None or len(attempt.failed) < len(best.failed):
            best = attempt
        if not attempt.failed:
            break
        order = [*attempt.failed, *(index for index in order if index not in attempt.failed)]
    return {
        "fits": not best.failed,
        "placements": best.placed,
        "unplaced": best.unplaced,
        "usage": best.fleet.usage(dict.fromkeys(item["selected"] for item in best.placed)),
        "message": _message(best),
    }


def _read(index: int, value: object) -> Request:
    try:
        return Request.build(value)
    except ValidationError as error:
        raise ValidationError(error.field.replace("request", f"requests[{index}]", 1), error.value, error.expected) from error


def _largest_first(fleet: LoadedFleet, requests: Sequence[Request]) -> list[int]:
    """By the greatest share of the whole fleet's vCPUs, memory or disk."""
    known = [state for state in fleet.hosts.values() if state.known]
    totals = [sum(state.vcpus.total for state in known), sum(state.memory_mb.total for state in known), sum(state.disk_mb.total for state in known)]

    def size(index: int) -> float:
        flavor = requests[index].flavor
        return max(need / (total or 1) for need, total in zip((flavor.vcpus, flavor.ram, flavor.disk_mb), totals))

    return sorted(range(len(requests)), key=size, reverse=True)


def _place(fleet: LoadedFleet, requests: Sequence[Request], order: Sequence[int]) -> _Attempt:
    attempt = _Attempt(fleet, [], [], [])
    for index in order:
        request = requests[index]
        answer = decide(fleet.context(request))
        entry = {"index": index, "instance": request.instance.name, "source": request.instance.host}
        if answer["selected"] is None:
            attempt.failed.append(index)
            attempt.unplaced.append({**entry, "rejected": answer["rejected"], "message": answer["message"]})
        else:
            fleet.claim(answer["selected"], request)
            attempt.placed.append({**entry, "selected": answer["selected"], "alternates": answer["alternates"], "weight": answer["ranked"][0]["weight"]})
    return attempt


def _message(attempt: _Attempt) -> str:
    total = len(attempt.placed) + len(attempt.unplaced)
    if not attempt.unplaced:
        return f"All {total} guests fit together, on {len({item['selected'] for item in attempt.placed})} hosts."
    lines = [f"{len(attempt.unplaced)} of {total} guests find no room beside the others; {len(attempt.placed)} fit."]
    return "\n".join([*lines, *(item["message"].partition("\n")[0] for item in attempt.unplaced)])
