# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""An operation one of whose hosts is gone for good: what can be done without it, and what is done should it come back all the same.

That a host is lost is nothing that the fleet can know, so a person says it, by name. What was decided then stays in the journal of the host
that is left, as `forced` of its record, until the lost host has been seen without anything of the operation. So a copy that comes back with its
host is never used: whatever it says, the other journal says how the operation ended.
"""

from __future__ import annotations

from typing import Any

from ansible_collections.kvmfleet.compute.plugins.module_utils._rules.errors import KvmfleetError
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.planning.fleet import Fleet

Answer = tuple[str, str]
Record = dict[str, Any]


def require_lost(fleet: Fleet, name: str) -> None:
    """Refuse a host that answers, or that nobody knows: what is done without it cannot be undone.

    :raises KvmfleetError: `host_answers`, `unknown_host`.
    """
    state = fleet.hosts.get(name)
    if state is None:
        records = [*fleet.all_open_migrations(), *fleet.forced_migrations()]
        if name not in {host for record in records for host in (record["source_host"], record["destination_host"])}:
            raise KvmfleetError("unknown_host", f"lost_host: {name!r} is not in inventory group compute, and no open operation names it.", host=name)
    elif state.get("up"):
        raise KvmfleetError("host_answers", f"{name} answers, so it is not lost. Nothing was changed; repeat without lost_host.", host=name)
    elif state.get("reachable"):
        raise KvmfleetError(
            "host_answers",
            f"{name} answers, though not about its guests ({fleet.down[name]}): they may run there, so it is not lost. Nothing was changed; mend it and repeat "
            "without lost_host, or switch it off.",
            host=name,
        )


def require_party(decision: dict[str, Any], lost_host: str) -> None:
    """:raises KvmfleetError: `not_a_party`."""
    if lost_host not in (decision["source"], decision["destination"]):
        raise KvmfleetError(
            "not_a_party",
            f"{lost_host} has no part in migration {decision['migration_uuid']} of {decision['instance_name']} "
            f"({decision['source']} -> {decision['destination'] or 'undecided'}). Nothing was changed.",
            host=lost_host,
        )


def without_source(source: str, record: Record) -> Answer:
    """What becomes of the destination's record. The source was sealed before anything could be complete here."""
    status, step = record["status"], record["step"]
    lost = f"{source} is lost"
    if status == "confirming":
        return "confirm", f"its confirm was interrupted and {lost}"
    if status == "finished":
        return "none", f"it is finished and {lost}: confirm it without that host"
    if status == "reverting":
        return "wait", f"its revert was interrupted and {lost}, which may have run the guest since: the disks here may be the best that is left of it"
    if record.get("withdrawing"):
        return "discard", f"{lost}, and the copy here was being withdrawn: the guest is lost unless that host comes back"
    if status == "post-migrating" or step == "defining":
        return "forward", f"{lost}, and the copy here is complete and proven"
    if step == "publishing":
        return "wait", f"{lost}, and the copy here is complete but has no definition: its disks are the best that is left of the guest"
    return "discard", f"{lost}, and the copy here is not complete: the guest is lost unless that host comes back"


def without_destination(destination: str, record: Record) -> Answer:
    """What becomes of the source's record, where nobody can ask whether the guest runs at the destination."""
    status = record["status"]
    if status == "reverting":
        return "revert", "its revert was interrupted"
    if status == "confirming":
        return "wait", f"{destination} is lost and its confirm was interrupted here: what is left of the source copy is the best that is left of the guest"
    if status == "finished":
        return "none", f"it is finished and {destination} is lost: revert it without that host"
    return "back", f"it was interrupted at step {record['step']} and {destination} is lost"


def may_be_back(fleet: Fleet, record: Record) -> bool:
    """Whether the record was brought to an end, or began to be, without a host that answers now."""
    name = (record.get("forced") or {}).get("lost_host")
    return name in fleet.hosts and name not in fleet.down


def of_a_returned_host(record: Record, forced: Record) -> Answer | None:
    """What becomes of the open record of a host that had been given up, given the closed one of the other host; None if that says nothing about it."""
    if record["role"] == "destination":
        return "discard", f"the guest was taken back to {record['source_host']} when {record['host']} had been given up as lost"
    if forced["status"] == "confirmed":
        if record["status"] in ("finished", "confirming") or record["step"] == "sealed":
            return "confirm", f"it was confirmed at {forced['host']} when {record['host']} had been given up as lost"
        return "wait", f"it was confirmed at {forced['host']} without {record['host']}, where it never was sealed: look at both hosts before you decide"
    return None


def without_open_record(fleet: Fleet, records: list[Record]) -> Answer:
    """What is left to do about an operation that was ended without a host and is open nowhere."""
    if len(records) > 1:
        return "wait", f"{' and '.join(record['host'] for record in records)} were each given up as lost by the other: look at both hosts before you decide"
    record = records[0]
    lost = record["forced"]["lost_host"]
    if lost not in fleet.hosts or lost in fleet.down:
        return "none", f"it was ended without {lost}, which has not come back"
    where = fleet.defined_on(record["instance_uuid"])
    if lost in where and len(where) > 1:
        return "wait", (
            f"{lost} is back, has no record of it, and defines the guest, which {' and '.join(name for name in where if name != lost)} has too: "
            "only you can know which copy is right; undefine the other one (virsh undefine --keep-nvram)"
        )
    return "release", f"{lost} is back and holds nothing of it"
