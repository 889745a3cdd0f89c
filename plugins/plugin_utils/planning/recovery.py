# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What to do with an open migration: confirm it, revert it, or bring it from wherever it was interrupted to a complete state.

The decision is made from the journals of both hosts and from what their libvirt says, never from the controller's memory. Rule of
invariant 1: the source copy is restored only where the destination is known not to be able to start the guest, and the other way round.
"""

from __future__ import annotations

from typing import Any

from ansible_collections.kvmfleet.compute.plugins.module_utils._journal import TRANSITIONS
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.planning.fleet import Fleet
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.planning.refusal import Refusal

VERBS = ("recover", "confirm", "revert")
_UNSEALED_STEPS = frozenset({"begun", "precopying", "stopping", "stopped"})


def decide(hosts: list[dict[str, Any]], verb: str, instance: str | None = None, migration_uuid: str | None = None) -> list[dict[str, Any]]:
    """One decision for each open migration that is meant.

    :param hosts: see `Fleet`; :param verb: recover, confirm or revert.
    :param instance: name or uuid, None for all; :param migration_uuid: only this one.
    :returns: mappings with `action` (none, wait, back, forward, confirm, revert, discard), `reason`, `migration_uuid`, `instance_name`,
        `in_place`, `source`, `destination`, `source_open`, `destination_open`, `status`, `updated_at` (Unix seconds, the later of both ends),
        `settled` (finished at both ends), `stray` (the host that holds a claim whose answer was lost, so that the operation went on with another
        destination; else None).
    :raises Refusal: confirm or revert of something that is not finished, or of an unknown instance.
    """
    fleet = Fleet(hosts)
    records = fleet.open_migrations(instance) if instance is not None else fleet.all_open_migrations()
    operations: dict[str, list[dict[str, Any]]] = {}
    for record in records:
        if migration_uuid in (None, record["uuid"]):
            operations.setdefault(record["uuid"], []).append(record)
    if not operations and instance is not None and migration_uuid is None:
        fleet.locate(instance)
    return [decision for operation in operations.values() for decision in _decide_operation(fleet, verb, operation)]


def _decide_operation(fleet: Fleet, verb: str, records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    group = {record["role"]: record for record in records if record["role"] != "destination"}
    taken = group["source"]["destination_host"] if "source" in group else None
    destinations = sorted(
        (record for record in records if record["role"] == "destination"),
        key=lambda record: (record["host"] == taken, list(TRANSITIONS).index(record["status"])),
    )
    if destinations and taken in (None, destinations[-1]["host"]):
        group["destination"] = destinations.pop()
    decisions = [_decide(fleet, verb, group)] if group else []
    for record in destinations:
        stray = _decide(fleet, "recover", {"destination": record})
        if record["status"] == "pre-migrating":
            stray.update(action="discard", reason="the operation does not need this destination's claim")
        decisions.append({**stray, "stray": record["host"]})
    return decisions


def _decide(fleet: Fleet, verb: str, group: dict[str, dict[str, Any]]) -> dict[str, Any]:
    any_record = next(iter(group.values()))
    source, destination, in_place = group.get("source"), group.get("destination"), group.get("in_place")
    decision = {
        "migration_uuid": any_record["uuid"],
        "instance_name": any_record["instance_name"],
        "instance_uuid": any_record["instance_uuid"],
        "migration_type": any_record["migration_type"],
        "in_place": in_place is not None,
        "stray": None,
        "source": any_record["source_host"],
        "destination": any_record["source_host"] if in_place else next((r["destination_host"] for r in group.values() if r["destination_host"]), None),
        "source_open": source is not None or in_place is not None,
        "destination_open": destination is not None or in_place is not None,
        "status": any_record["status"],
        "updated_at": max(record["updated_at"] for record in group.values()),
        "settled": {record["status"] for record in group.values()} == {"finished"} and (in_place is not None or len(group) == 2),
        "old_flavor": any_record["old_flavor"],
        "new_flavor": any_record["new_flavor"],
    }
    action, reason = _in_place(fleet, in_place) if in_place else _between(fleet, decision, source, destination)
    if verb != "recover":
        down = [name for name in (decision["source"], decision["destination"]) if name in fleet.down]
        if down:
            raise Refusal(
                "host_unreachable",
                f"Migration {decision['migration_uuid']} of {decision['instance_name']} cannot be {_PAST[verb]}: {down[0]} is unreachable "
                f"({fleet.down[down[0]]}). Nothing was changed; repeat when it is back.",
                hosts=down,
            )
        if action == "none":
            action, reason = verb, f"it is finished and {verb} was asked for"
        elif action != verb:
            raise Refusal(
                "not_finished",
                f"Migration {decision['migration_uuid']} of {decision['instance_name']} cannot be {_PAST[verb]}: {reason}. "
                "Run kvmfleet.compute.recover for it first.",
                migration_uuid=decision["migration_uuid"],
            )
    return {**decision, "action": action, "reason": reason}


_PAST = {"confirm": "confirmed", "revert": "reverted"}


def _in_place(fleet: Fleet, record: dict[str, Any]) -> tuple[str, str]:
    status = record["status"]
    if status == "finished":
        return "none", "it is finished and waits for confirm or revert"
    if status == "confirming":
        return "confirm", "its confirm was interrupted"
    if status == "reverting":
        return "revert", "its revert was interrupted"
    if status == "post-migrating" and _runs_or_was_off(fleet, record["host"], record):
        return "forward", "the guest has the new flavor already"
    return "back", f"it was interrupted at step {record['step']} before the guest was started with the new flavor"


def _between(fleet: Fleet, decision: dict[str, Any], source: dict[str, Any] | None, destination: dict[str, Any] | None) -> tuple[str, str]:
    if source is None and destination is not None:
        return _destination_alone(fleet, decision, destination)
    if source is None:
        raise AssertionError("a group has at least one record")
    statuses = {source["status"], destination["status"] if destination else None}
    if "confirming" in statuses:
        if decision["destination"] in fleet.down:
            return "wait", f"its confirm was interrupted and the destination {decision['destination']} is unreachable ({fleet.down[decision['destination']]})"
        return "confirm", "its confirm was interrupted"
    if "reverting" in statuses:
        return "revert", "its revert was interrupted"
    if destination is None:
        return _source_alone(fleet, decision, source)
    if destination["status"] == "finished":
        if source["status"] == "finished":
            return "none", "it is finished and waits for confirm or revert"
        return "forward", "the guest has been started at the destination"
    if destination["status"] == "post-migrating" and _runs_or_was_off(fleet, destination["host"], destination):
        return "forward", "the guest is at the destination already"
    if source["status"] == "finished":
        return "wait", f"the source says finished, but the destination says {destination['status']}: look at both hosts before you decide"
    return "back", f"it was interrupted at step {destination['step']} before the guest was started at the destination"


def _source_alone(fleet: Fleet, decision: dict[str, Any], source: dict[str, Any]) -> tuple[str, str]:
    peer = decision["destination"]
    if source["step"] in _UNSEALED_STEPS or peer is None:
        return "back", f"it was interrupted at step {source['step']}, when the source copy was not sealed yet"
    if peer not in fleet.hosts or peer in fleet.down:
        return "wait", (
            f"the source copy on {decision['source']} is sealed and the destination {peer} is unreachable ({fleet.down.get(peer, 'not in this inventory')}): "
            "the guest may run there, so nothing is started here until it answers"
        )
    if source["status"] == "finished":
        return "wait", f"the source says finished, but the journal of {peer} knows nothing of it: look at the guest there before you decide"
    return "back", f"the destination {peer} holds nothing of it (any more)"


def _destination_alone(fleet: Fleet, decision: dict[str, Any], destination: dict[str, Any]) -> tuple[str, str]:
    peer = decision["source"]
    if peer not in fleet.hosts or peer in fleet.down:
        return "wait", f"the source {peer} is unreachable ({fleet.down.get(peer, 'not in this inventory')}), so it is unknown what it holds of the guest"
    if destination["status"] == "confirming":
        return "confirm", "the source copy is gone, only the destination's record is open"
    if destination["status"] == "reverting":
        return "revert", "the guest is back at its source, only leftovers at the destination remain"
    if destination["status"] in ("finished", "post-migrating"):
        return "wait", f"the destination says {destination['status']}, but the journal of {peer} has no open record of it: look at both hosts before you decide"
    return "discard", "the source is as before; only leftovers at the destination remain"


def _runs_or_was_off(fleet: Fleet, host: str, record: dict[str, Any]) -> bool:
    if not record.get("was_running"):
        return True
    state = next((entry["state"] for entry in fleet.hosts[host].get("domains", []) if entry["uuid"] == record["instance_uuid"]), None)
    return state == "running"
