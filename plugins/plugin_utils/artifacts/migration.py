# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""`kvmfleet_migration`: what came of an operation, and how that is said."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.artifacts.plain import flag, integer, number, plain, text
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.artifacts.wrapped import wrapped
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.planning.flavors import describe

MIB = 1024**2
OUTCOMES = {
    "finished": "moved",
    "nothing_to_do": "nothing_to_do",
    "error": "undone",
    "unknown": "open",
    "confirmed": "confirmed",
    "reverted": "reverted",
}
"""What programs decide by, for each status that an operation is left with."""


def moved(plan: Mapping[str, Any], destination: str, migration_uuid: str, told: Mapping[str, Any], window: Any = 0) -> dict[str, Any]:
    """An operation that has come to its end and waits for confirm or revert.

    :param told: what the tasks said, as they said it: `sealed`, `started`, `channel`, `ahead`, `rounds`, `frozen`, `quiesced`, `shared`, `tunnel`,
        `obtained`, `passed_over` and `filesystem`.
    :param window: seconds after which `auto_confirm` confirms it, 0 for never.
    """
    record, started, sealed, channel = plan["record"], told["started"], told["sealed"], told.get("channel") or {}
    rounds = [integer(size) or 0 for size in told.get("rounds") or []]
    bases = [{**plain(base), "bytes_transferred": integer(base["bytes_transferred"])} for base in told["obtained"]]
    seconds = number(window) or 0
    return {
        "instance": text(record["instance_name"]),
        "migration_uuid": text(migration_uuid),
        "migration_type": text(record["migration_type"]),
        "status": "finished",
        "outcome": OUTCOMES["finished"],
        "source": text(plan["source"]),
        "destination": text(destination),
        "in_place": plan["action"] == "in_place",
        "old_flavor": _flavor(record["old_flavor"]),
        "new_flavor": _flavor(record["new_flavor"]),
        "precopy": {
            "wanted": flag(told["ahead"]["wanted"]),
            "reason": text(told["ahead"]["reason"]),
            "rounds": len(rounds),
            "bytes": sum(rounds),
            "ended": text((told.get("frozen") or {}).get("reason") or ""),
            "quiesced": all(flag(one) for one in told.get("quiesced") or []),
        },
        "overlay_bytes": integer(started.get("bytes_transferred")),
        "resumed_bytes": integer(started.get("resumed_bytes")),
        "shared_disks": plain(told["shared"]),
        "bandwidth_limit": integer(channel.get("bandwidth_limit")),
        "transport": plain(channel.get("transport")),
        "tunnel": bool(told.get("tunnel")),
        "copied_by": plain(started.get("copied_by")),
        "base_bytes": sum(base["bytes_transferred"] for base in bases),
        "bases": bases,
        "bases_passed_over": plain(told["passed_over"]),
        "was_running": flag(sealed["stopped"]["was_running"]),
        "live_differences": plain(plan.get("live_differences") or {"answer": None, "found": []}),
        "stopped_by": plain(sealed["stopped"]["method"]),
        "downtime_seconds": _downtime(sealed, started),
        "agent_answered": plain(started["agent_answered"]),
        "filesystem": plain(told["filesystem"]),
        "auto_confirm_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + seconds)) if seconds > 0 else None,
    }


def ended(operation: Mapping[str, Any], status: str, reason: str = "") -> dict[str, Any]:
    """An operation that was undone, settled or left open, or that there was none of.

    :param operation: a decision, or `instance_name`, `migration_uuid` and what else is known of it.
    """
    return {
        "instance": text(operation["instance_name"]),
        "migration_uuid": text(operation["migration_uuid"]),
        "migration_type": plain(operation.get("migration_type")),
        "status": text(status),
        "outcome": OUTCOMES[status],
        "source": plain(operation.get("source")),
        "destination": plain(operation.get("destination")) or None,
        "in_place": flag(operation.get("in_place")),
        "reason": text(reason),
    }


def lines(told: Mapping[str, Any]) -> list[str]:
    """A result for people, in short lines. The last one says all that matters."""
    return [*wrapped(_of_a_move(told)), sentence(told)] if "downtime_seconds" in told else [_of_an_end(told)]


def _of_an_end(told: Mapping[str, Any]) -> str:
    said = {
        "moved": f"{told['instance']} is on {told['destination']} and waits for confirm or revert",
        "nothing_to_do": f"There was nothing to do for {told['instance'] or 'any guest'}",
        "undone": f"The operation on {told['instance']} was undone: it is as before on {told['source']}",
        "open": f"The operation on {told['instance']} is still open",
        "confirmed": f"{told['instance']} stays on {told['destination'] or told['source']}: the operation is confirmed",
        "reverted": f"{told['instance']} is back on {told['source']}: the operation is reverted",
    }[told["outcome"]]
    return f"{said}{' (' + told['reason'].rstrip('.') + ')' if told['reason'] else ''}."


def _of_a_move(told: Mapping[str, Any]) -> list[str]:
    ahead = told["precopy"]
    return [
        f"Operation {told['migration_uuid']}: {told['migration_type']} of {told['instance']} {_way(told)}",
        f"Flavor: {describe(told['old_flavor'])} -> {describe(told['new_flavor'])}",
        *(f"Base image {base['path']}: {mib(base['bytes_transferred'])} from {base['from']}" for base in told["bases"] if base["bytes_transferred"]),
        *(f"A source of a base image had no use: {reason}" for reason in told["bases_passed_over"]),
        *([f"Copied ahead: {mib(ahead['bytes'])} in {ahead['rounds']} rounds, until {ahead['ended'] or 'the guest was stopped'}"] if ahead["rounds"] else []),
        *([f"Copied again after a break: {mib(told['resumed_bytes'])} did not have to be"] if told["resumed_bytes"] else []),
        *([f"Shared disks, which were not copied: {', '.join(told['shared_disks'])}"] if told["shared_disks"] else []),
        *_of_differences(told.get("live_differences") or {}),
        *([f"Its filesystem: {told['filesystem']['reason']}"] if told["filesystem"]["answer"] != "not_asked" else []),
    ]


def _of_differences(told: Mapping[str, Any]) -> list[str]:
    becomes = {"keep": "Kept, and in its definition now", "drop": "Gone with the restart, as its definition says"}
    return [f"{becomes[told['answer']]}: {'; '.join(told['found'])}"] if told.get("found") else []


def sentence(told: Mapping[str, Any]) -> str:
    """Where the guest runs, its flavor, down for how long, what was copied, what waits for whom until when."""
    flavor = told["new_flavor"]
    named = f"flavor {flavor['name']}" if flavor.get("name") else describe(flavor)
    down = "" if told["downtime_seconds"] is None else f", was down for {told['downtime_seconds']:.1f} s"
    copied = told["overlay_bytes"] + told["base_bytes"]
    parts = [f"{mib(told[key])} {name}" for key, name in (("overlay_bytes", "of its own"), ("base_bytes", "of base images")) if told[key]]
    what = f", {mib(copied)} copied{' (' + ', '.join(parts) + ')' if len(parts) > 1 else ''}"
    until = f", until auto_confirm confirms it after {told['auto_confirm_at']}" if told["auto_confirm_at"] else ", for as long as you like"
    return (
        f"{told['instance']} {'runs' if told['was_running'] else 'is off'} on {told['destination']} with {named}{down}{what}; "
        f"it waits for your confirm or revert{until}."
    )


def mib(size: int) -> str:
    """`48.8 MiB`."""
    return f"{size / MIB:.1f} MiB" if size else "nothing"


def _way(told: Mapping[str, Any]) -> str:
    return f"in place on {told['source']}" if told["in_place"] else f"from {told['source']} to {told['destination']}"


def _flavor(told: Mapping[str, Any]) -> dict[str, Any]:
    """Its numbers as numbers."""
    numbers = {name: integer(told[name]) for name in ("vcpus", "ram", "disk", "ephemeral", "swap") if name in told}
    return {**plain(told), **numbers}


def _downtime(sealed: Mapping[str, Any], started: Mapping[str, Any]) -> float | None:
    """Each host tells how long ago something was when it answered, and the controller when it had the answer: no two clocks are compared."""
    if number(started["timings"]["started_at"]) is None:
        return None
    stopped, up = _ago(sealed, sealed["stopped"]["requested_at"]), _ago(started, started["timings"]["started_at"])
    return None if stopped is None or up is None else round(up - stopped, 2)


def _ago(answer: Mapping[str, Any], at: Any) -> float | None:
    received, answered, moment = number(answer.get("received_at")), number(answer.get("answered_at")), number(at)
    return None if received is None or answered is None or moment is None else received - (answered - moment)
