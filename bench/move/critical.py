# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where the time of the critical section goes: the tasks of a playbook between the request to shut down and the start, and what happens within them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any


def tasks_between(tasks: Iterable[Mapping[str, Any]], round_trips: Sequence[float], begin: float, end: float) -> list[dict[str, Any]]:
    """Each task that ran between two instants: how long it took, how long of that the guest was down, and how often Ansible went to a host for it.

    :param tasks: lines of the callback plugin `durations`.
    :param round_trips: when Ansible ran ssh.
    """
    found = []
    for task in tasks:
        began, ended = task["at"], task["at"] + task["seconds"]
        if began < end and ended > begin:
            trips = sum(began <= at < ended for at in round_trips)
            down = min(ended, end) - max(began, begin)
            name = task["task"].rpartition(" : ")[2]
            found.append({"task": name, "seconds": round(task["seconds"], 3), "down_seconds": round(down, 3), "round_trips": trips})
    return found


def phases(source: Mapping[str, Any], destination: Mapping[str, Any]) -> dict[str, float]:
    """The seconds of the downtime, by what the journals of both hosts say happened; their sum is the downtime."""
    stopped, timings = source["stopped"], destination["timings"]
    sealed = _at(source, "sealed")
    defined = _at(destination, "defined")
    instants = {
        "guest shuts down": stopped["off_at"],
        "seal and offer": sealed,
        "way to the destination's module": timings["began_at"],
        "copy": timings["copied_at"],
        "compare checksums": timings["verified_at"],
        "rebase, check, publish, define": defined,
        "start": timings["started_at"],
    }
    spent, before = {}, stopped["requested_at"]
    for name, at in instants.items():
        spent[name], before = round(at - before, 3), at
    return spent


def copying(destination: Mapping[str, Any]) -> float:
    """Seconds of all rounds ahead, with their comparison and merge, and of the copy while the guest was down."""
    timings, rounds, began = destination["timings"], 0.0, None
    for entry in destination["history"]:
        if entry["step"] == "precopying":
            if "note" in entry:
                rounds += entry["at"] - began
            else:
                began = entry["at"]
    return rounds + timings["copied_at"] - timings["began_at"]


def _at(record: Mapping[str, Any], step: str) -> float:
    return next(entry["at"] for entry in record["history"] if entry["step"] == step)
