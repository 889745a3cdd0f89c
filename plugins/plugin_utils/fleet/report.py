# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a run has come to: a table of all guests, and a sentence with what may be done with the host now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.fleet import progress, telling
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.table import aligned
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.validation import ValidationError

_COLUMNS = ("#", "instance", "from -> to", "outcome", "down", "copied", "remarks")
_LISTS = {"stops": progress.STOPPED, "leaves": progress.LEFT, "waits": progress.WAITING, "starts": progress.STARTED, "stays": progress.LEFT}
VERBS = ("drain", "restore")
EVACUATED, EMPTY = "evacuated", "empty"


def require_verb(verb: object) -> None:
    """:raises ValidationError: it is neither."""
    if verb not in VERBS:
        raise ValidationError.not_one_of("verb", verb, VERBS)


def guests(programme: Mapping[str, Any], results: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Each guest of a programme with what became of it, those that move first, in their order.

    :param results: `state`, `downtime_seconds`, `bytes`, `seconds`, `message` and `migration_uuid` by UUID; what is not told was never begun.
    """
    found = []
    for move in programme["moves"]:
        result = results.get(move["uuid"]) or {"state": progress.SKIPPED, "message": "never begun"}
        found.append(_guest(move, result, "" if result.get("message") is None else str(result["message"])))
    for name, state in _LISTS.items():
        for told in programme[name]:
            result = results.get(told["uuid"]) or {"state": state}
            found.append(_guest(told, result, str(result.get("message") or told["message"])))
    return found


def _guest(told: Mapping[str, Any], result: Mapping[str, Any], message: str) -> dict[str, Any]:
    return {
        "instance": told["instance"],
        "uuid": told["uuid"],
        "class": told["class"],
        "order": told.get("order"),
        "host": told["host"],
        "destination": told.get("destination"),
        "state": result["state"],
        "was_running": told["downtime"] == "running",
        "downtime_seconds": result.get("downtime_seconds"),
        "bytes": result.get("bytes") or 0,
        "copy_bytes": told["wants"]["copy_bytes"],
        "seconds": result.get("seconds"),
        "migration_uuid": result.get("migration_uuid"),
        "message": " ".join(message.split()),
        "when": told.get("when"),
    }


def totals(told: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Counts and sums of what became of guests."""
    downs = [guest["downtime_seconds"] for guest in told if isinstance(guest["downtime_seconds"], (int, float))]
    return {
        "guests": len(told),
        **{name: sum(guest["state"] in states for guest in told) for name, states in _COUNTED.items()},
        "downtime_seconds": round(sum(downs), 2),
        "worst_downtime_seconds": max(downs, default=0),
        "bytes": sum(guest["bytes"] for guest in told),
    }


_COUNTED: dict[str, Sequence[str]] = {
    "moved": (progress.MOVED, progress.CONFIRMED),
    "stopped": (progress.STOPPED,),
    "started": (progress.STARTED,),
    "left": (progress.LEFT,),
    "waiting": (progress.WAITING, progress.PLANNED),
    "failed": progress.FAILED,
    "skipped": (progress.SKIPPED,),
}


def table(told: Sequence[Mapping[str, Any]]) -> list[str]:
    """A line a guest."""
    return aligned([_COLUMNS, *map(_row, told)]).splitlines() if told else []


def _row(guest: Mapping[str, Any]) -> tuple[str, ...]:
    way = f"{guest['host']} -> {guest['destination']}" if guest["destination"] else str(guest["host"])
    down = f"{guest['downtime_seconds']:.1f} s" if isinstance(guest["downtime_seconds"], (int, float)) else ""
    remark = guest["message"] if guest["state"] not in (progress.MOVED, progress.CONFIRMED, progress.STARTED) else ""
    return (str(guest["order"] or ""), guest["instance"], way, guest["state"], down, progress.amount(guest["bytes"]), remark)


def drained(hosts: Sequence[str], state: str, told: Sequence[Mapping[str, Any]], others: Sequence[str] = (), copies: int | None = None) -> str:
    """`kvm1 is evacuated: 11 moved, 1 stopped (gpu1), 1 left (backup). It may be rebooted. It is not empty: 11 sealed copies wait for confirm (218 GiB).`

    :param state: of the hosts' records; :param others: guests that are there and of no programme.
    :param copies: how many sealed copies there are; as many as were moved and not confirmed, unless told.
    """
    one = len(hosts) == 1
    what = ", ".join([*filter(None, (_counted(told, word, states) for word, states in _SAID.items()))]) or "there was nothing to do"
    head = f"{telling.names(hosts)} {'is' if one else 'are'} {state}: {what}."
    if others:
        head += f" {telling.names(list(others))} came meanwhile and {'is' if len(others) == 1 else 'are'} there."
    if state == EMPTY:
        return f"{head} {'It' if one else 'They'} may be wiped."
    if state != EVACUATED:
        return f"{head} {'It stays' if one else 'They stay'} closed; the same command again goes on, restore opens {'it' if one else 'them'}."
    waiting = [guest for guest in told if guest["state"] == progress.MOVED]
    number = len(waiting) if copies is None else copies
    size = sum(guest["copy_bytes"] for guest in waiting)
    held = f" ({telling.size(size)})" if size and number == len(waiting) else ""
    noun = f"{number} sealed {'copy waits' if number == 1 else 'copies wait'}"
    rest = f" {'It is' if one else 'They are'} not empty: {noun} for confirm{held}." if number else ""
    return f"{head} {'It' if one else 'They'} may be rebooted.{rest}"


_SAID = {
    "moved": (progress.MOVED, progress.CONFIRMED),
    "stopped": (progress.STOPPED,),
    "left": (progress.LEFT,),
    "waiting": (progress.WAITING, progress.PLANNED),
    "failed": progress.FAILED,
    "never begun": (progress.SKIPPED,),
}


def _counted(told: Sequence[Mapping[str, Any]], word: str, states: Sequence[str]) -> str:
    found = [guest for guest in told if guest["state"] in states]
    if not found:
        return ""
    shown = [f"{guest['instance']}{' until ' + guest['when'] if guest.get('when') else ''}" for guest in found[:5]]
    more = [f"{len(found) - 5} more"] if len(found) > 5 else []
    return f"{len(found)} {word}" + ("" if word == "moved" else f" ({', '.join([*shown, *more])})")


def restored(hosts: Sequence[str], told: Sequence[Mapping[str, Any]]) -> str:
    """`kvm1 is in service: 1 started (gpu1), 3 came home, 1 failed (web3). 8 guests that came from here stay where they are.`"""
    home = sum(guest["state"] in (progress.MOVED, progress.CONFIRMED) for guest in told)
    away = sum(guest["state"] in (progress.LEFT, progress.SKIPPED, *progress.FAILED) and guest["host"] not in hosts for guest in told)
    said = {"started": (progress.STARTED,), "failed": progress.FAILED, "never begun": (progress.SKIPPED,)}
    parts = [_counted(told, word, states) for word, states in said.items()]
    parts.insert(1, f"{home} came home" if home else "")
    what = ", ".join(filter(None, parts)) or "there was nothing to do"
    one = away == 1
    stay = f" {telling.count(away, 'guest')} that came from here {'stays where it is' if one else 'stay where they are'}." if away else ""
    return f"{telling.names(hosts)} is in service: {what}.{stay}"
