# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The audit trail: what the journals of all hosts say about operations, those that have ended too, put together and as text."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from ansible_collections.kvmfleet.compute.plugins.module_utils._rules.statuses import CLOSED
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.table import aligned

_OPERATION_COLUMNS = ("began (UTC)", "ended (UTC)", "instance", "type", "from -> to", "status", "by", "settled by", "reason", "migration_uuid")
_STEP_COLUMNS = ("at (UTC)", "host", "status", "step", "note", "by", "reason")
_ROLES = ("source", "in_place", "destination")


def operations(journals: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One mapping for each operation, oldest first.

    :param journals: for each host `host` and `migrations` (records with their history); one that could not be read has `up` false.
    """
    found: dict[str, list[dict[str, Any]]] = {}
    for journal in filter(_is_read, journals):
        for record in journal["migrations"]:
            found.setdefault(record["uuid"], []).append({**record, "host": journal["host"]})
    return sorted(map(_operation, found.values()), key=lambda operation: operation["began_at"])


def history(journals: Collection[Mapping[str, Any]], detailed: bool) -> str:
    """The operations as a table, each with its steps if `detailed`; and whose journal could not be read."""
    found, silent = operations(journals), [journal for journal in journals if not _is_read(journal)]
    table = aligned([_OPERATION_COLUMNS, *map(_operation_row, found)]).splitlines() if found else ["No operations."]
    parts = ["\n".join(table)] if not (detailed and found) else [_detail(table[0], row, one) for row, one in zip(table[1:], found)]
    if silent:
        parts.append("Not read: " + "; ".join(f"{journal['host']} ({_one_line(journal.get('down_reason'))})" for journal in silent) + ".")
    return "\n\n".join(parts)


def _is_read(journal: Mapping[str, Any]) -> bool:
    return journal.get("up", True)


def _operation(records: list[dict[str, Any]]) -> dict[str, Any]:
    records = sorted(records, key=lambda record: _ROLES.index(record["role"]))
    first = records[0]
    is_open = [record for record in records if record["status"] not in CLOSED]
    requested_by = {key: value for key, value in (first.get("requested_by") or {}).items() if value not in (None, "")}
    steps = [{"host": record["host"], **entry} for record in records for entry in record.get("history", [])]
    return {
        "migration_uuid": first["uuid"],
        "instance_name": first["instance_name"],
        "instance_uuid": first["instance_uuid"],
        "migration_type": first["migration_type"],
        "source": first["source_host"],
        "destination": next((record["destination_host"] for record in records if record.get("destination_host")), None),
        "in_place": first["role"] == "in_place",
        "status": max(is_open or records[:1], key=lambda record: record["updated_at"])["status"],
        "began_at": min(record["created_at"] for record in records),
        "ended_at": None if is_open else max(record["updated_at"] for record in records),
        "requested_by": requested_by,
        "reason": first.get("reason") or None,
        "settled_by": next((record["taken_over_by"].get("by") for record in records if record.get("taken_over_by")), None),
        "error": next((record["error"] for record in records if record.get("error")), None),
        "forced": next((record["forced"] for record in records if record.get("forced")), None),
        "steps": sorted(steps, key=lambda step: step["at"]),
    }


def _detail(head: str, row: str, operation: Mapping[str, Any]) -> str:
    steps = map(_step_row, operation["steps"])
    error = [f"error: {_one_line(operation['error'])}"] if operation["error"] else []
    return "\n".join([head, row, *error, *(f"  {line}" for line in aligned([_STEP_COLUMNS, *steps]).splitlines())])


def _step_row(step: Mapping[str, Any]) -> tuple[str, ...]:
    said = (_one_line(step.get("note")), by(step.get("by")), _one_line(step.get("reason")))
    return (_utc(step["at"]), step["host"], step["status"], step["step"], *said)


def _operation_row(operation: Mapping[str, Any]) -> tuple[str, ...]:
    way = f"{operation['source']} in place" if operation["in_place"] else f"{operation['source']} -> {operation['destination'] or 'undecided'}"
    began, ended = _utc(operation["began_at"]), _utc(operation["ended_at"]) if operation["ended_at"] is not None else "-"
    who = (by(operation["requested_by"]) or "-", by(operation["settled_by"]) or "-", _one_line(operation["reason"]) or "-")
    return (began, ended, operation["instance_name"], operation["migration_type"], way, operation["status"], *who, operation["migration_uuid"])


def by(who: Mapping[str, Any] | None) -> str:
    """Who did something, in words: the user, or the schedule that nobody has to start, the job, and the workflow job of which that is a part."""
    who = who or {}
    parts = [_one_line(who.get("user") or ""), *(f"{_WORDS[key]} {_one_line(who[key])}" for key in _WORDS if who.get(key))]
    return ", ".join(filter(None, parts))


_WORDS = {"schedule": "schedule", "job": "job", "workflow_job": "workflow job"}


def _utc(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(at))


def _one_line(text: Any) -> str:
    return " ".join(str(text or "").split())
