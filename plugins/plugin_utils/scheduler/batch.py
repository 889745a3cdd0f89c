# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Several requests placed together: the answer proves room for all of them, or names those that there is none for."""

from __future__ import annotations

from typing import Any

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler import together
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.loaded_fleet import LoadedFleet
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.options import Options
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.request import Request
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.validation import ValidationError, sequence


def place_together(hosts: object, requests: object, scheduler: object = None) -> dict[str, Any]:
    """Place a list of requests, each seeing the claims of those before it; see `together.place`.

    :return: `fits`, `placements` and `unplaced` in the order in which they were decided, `usage` of the hosts that got a guest, `message`.
    :raises ValidationError: an argument is malformed.
    """
    options = Options.build(scheduler)
    asked = [_read(index, request) for index, request in enumerate(sequence("requests", requests))]
    best = together.place(LoadedFleet(hosts, options), [[request] for request in asked])
    placed = [_placement(index, asked[index], answer) for index, answer in best.placed.items()]
    unplaced = [{**_entry(index, asked[index]), "rejected": answer["rejected"], "message": answer["message"]} for index, answer in best.failed.items()]
    return {
        "fits": not unplaced,
        "placements": placed,
        "unplaced": unplaced,
        "usage": best.fleet.usage(dict.fromkeys(item["selected"] for item in placed)),
        "message": _message(placed, unplaced),
    }


def _read(index: int, value: object) -> Request:
    try:
        return Request.build(value)
    except ValidationError as error:
        raise ValidationError(error.field.replace("request", f"requests[{index}]", 1), error.value, error.expected) from error


def _entry(index: int, request: Request) -> dict[str, Any]:
    return {"index": index, "instance": request.instance.name, "source": request.instance.host}


def _placement(index: int, request: Request, answer: dict[str, Any]) -> dict[str, Any]:
    weight = next(ranked["weight"] for ranked in answer["ranked"] if ranked["host"] == answer["selected"])
    return {**_entry(index, request), "selected": answer["selected"], "alternates": answer["alternates"], "weight": weight}


def _message(placed: list[dict[str, Any]], unplaced: list[dict[str, Any]]) -> str:
    total = len(placed) + len(unplaced)
    if not unplaced:
        return f"All {total} guests fit together, on {len({item['selected'] for item in placed})} hosts."
    lines = [f"{len(unplaced)} of {total} guests find no room beside the others; {len(placed)} fit."]
    return "\n".join([*lines, *(item["message"].partition("\n")[0] for item in unplaced)])
