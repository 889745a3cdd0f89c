# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What to do with an open migration: confirm it, revert it, or bring it from wherever it was interrupted to a complete state.

The decision is made from the journals of both hosts and from what their libvirt says, never from the controller's memory. Rule of
invariant 1: the source copy is restored only where the destination is known not to be able to start the guest, and the other way round.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from typing import Any

from ansible_collections.kvmfleet.compute.plugins.module_utils._rules.errors import KvmfleetError
from ansible_collections.kvmfleet.compute.plugins.module_utils._rules.statuses import TRANSITIONS
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.planning import clocks, lost_host as lost
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.planning.fleet import Fleet
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.planning.history import by
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.planning.progress import copy_progress

VERBS = ("recover", "confirm", "revert")
_NO_MIGRATION = str(uuid.UUID(int=0))  # what a run that had nothing to do hands on
_UNSEALED_STEPS = frozenset({"begun", "precopying", "stopping", "stopped"})


def decide(
    hosts: Iterable[Mapping[str, Any]], verb: str, instance: str | None = None, migration_uuid: str | None = None, lost_host: str | None = None
) -> list[dict[str, Any]]:
    """One decision for each migration that is meant and that is open, or was ended without a lost host that may still come back.

    Those that a run still works on come last, so that no guest which is off waits for the long copy of another one.

    :param hosts: see `Fleet`; :param verb: recover, confirm or revert.
    :param instance: name or uuid, None for all; :param migration_uuid: only this one.
    :param lost_host: name of a host that is gone for good, without which operations are to be brought to an end.
    :returns: mappings with `action` (none, wait, back, forward, confirm, revert, discard, release), `reason`, `migration_uuid`, `instance_name`,
        `in_place`, `source`, `destination`, `source_open`, `destination_open`, `status`, `updated_at` (Unix seconds, the later of both ends),
        `age` (seconds since then, by the clock of whoever noted it; None where that is not known), `clock` (whose clock was set since, in words, or None),
        `gone` (the owner that one of its hosts has seen go, else None), `worked_on` (the run that still works on it, in words, else None),
        `settled` (finished at both ends), `stray` (the host that holds a claim whose answer was lost, so that the operation went on with another
        destination; else None), `lost_host` (the host without which it is acted, else None), `survivor` and `settled_as` (the host that ended
        it, or began to, without the other one, which answers again, and the status that it ended with there; else None).
    :raises KvmfleetError: confirm or revert of something that is not finished, or of an unknown instance; a lost host that answers or has no part in it.
    """
    fleet = Fleet(hosts)
    if lost_host is not None:
        lost.require_lost(fleet, lost_host)

    def meant(record: dict[str, Any]) -> bool:
        return instance in (None, record["instance_name"], record["instance_uuid"]) and migration_uuid in (None, record["uuid"])

    operations: dict[str, list[dict[str, Any]]] = {}
    for record in filter(meant, fleet.all_open_migrations()):
        operations.setdefault(record["uuid"], []).append(record)
    ended: dict[str, list[dict[str, Any]]] = {}
    for record in filter(meant, fleet.forced_migrations()):
        ended.setdefault(record["uuid"], []).append(record)
        if verb == "recover":
            operations.setdefault(record["uuid"], [])
    if not operations and instance is not None and migration_uuid is None:
        fleet.locate(instance)
    decisions = [decision for key, records in operations.items() for decision in _decide_operation(fleet, verb, records, ended.get(key, []), lost_host)]
    strangers = list(filter(meant, fleet.strangers()))
    if strangers and not decisions and verb != "recover":
        raise KvmfleetError("not_a_party", f"{_unheard(strangers[0])} Nothing was changed.", host=strangers[0]["host"])
    decisions += [_of_a_stranger(fleet, record) for record in strangers if verb == "recover"]
    if not decisions and verb != "recover" and migration_uuid not in (None, _NO_MIGRATION) and fleet.down:
        raise _unknown(fleet, verb, migration_uuid)
    if lost_host is not None and (instance is not None or verb != "recover"):
        for decision in decisions:
            lost.require_party(decision, lost_host)
    return sorted(decisions, key=lambda decision: decision["worked_on"] is not None)


def _unknown(fleet: Fleet, verb: str, migration_uuid: str) -> KvmfleetError:
    """What was asked for by its UUID is not seen, and a host that may have it does not answer: to have nothing to do would be a guess."""
    down = ", ".join(f"{name} ({reason})" for name, reason in sorted(fleet.down.items()))
    return KvmfleetError(
        "host_unreachable",
        f"Migration {migration_uuid} cannot be {_PAST[verb]}: no host that answers has an open record of it, and {down} cannot be asked. Nothing was changed; "
        "repeat when all hosts answer.",
        migration_uuid=migration_uuid,
        hosts=sorted(fleet.down),
    )


def _unheard(record: dict[str, Any]) -> str:
    role, parties = record["role"].replace("_", " "), f"{record['source_host']} and {record['destination_host'] or 'an undecided host'}"
    return (
        f"{record['host']} has a record of migration {record['uuid']} of {record['instance_name']} as its {role}, and by that record the operation is between "
        f"{parties}. A renamed host, or two inventories? Give the host the name that its records know, or look at its journal."
    )


def _of_a_stranger(fleet: Fleet, record: dict[str, Any]) -> dict[str, Any]:
    """Nothing is done for the record of a host that is no party; that it is there is said."""
    return {**_told(fleet, {record["role"]: record}, [], None), "source": record["host"], "destination": None, "action": "wait", "reason": _unheard(record)}


def _decide_operation(fleet: Fleet, verb: str, records: list[dict[str, Any]], ended: list[dict[str, Any]], lost_host: str | None) -> list[dict[str, Any]]:
    sources = sorted({record["host"] for record in records if record["role"] == "source"})
    if len(sources) > 1:
        reason = f"{' and '.join(sources)} each say that they are its source: nothing is done before you have looked at both hosts"
        return _refused(verb, {**_told(fleet, {"source": records[0]}, ended, lost_host), "action": "wait", "reason": reason})
    strange = [record for record in records if record["role"] == "destination" and sources and record["source_host"] != sources[0]]
    if strange:
        others = [record for record in records if record not in strange]
        unheard = [_of_a_stranger(fleet, record) for record in strange] if verb == "recover" else []
        return [*_decide_operation(fleet, verb, others, ended, lost_host), *unheard]
    group = {record["role"]: record for record in records if record["role"] != "destination"}
    taken = next((record["destination_host"] for record in [*group.values(), *ended] if record["role"] == "source"), None)
    destinations = sorted(
        (record for record in records if record["role"] == "destination"),
        key=lambda record: (record["host"] == taken, list(TRANSITIONS).index(record["status"])),
    )
    if destinations and taken in (None, destinations[-1]["host"]):
        group["destination"] = destinations.pop()
    decisions = [_decide(fleet, verb, group, ended, lost_host)] if group or not records else []
    for record in destinations:
        stray = _decide(fleet, "recover", {"destination": record}, [], None)
        if record["status"] == "pre-migrating":
            stray.update(action="discard", reason="the operation does not need this destination's claim")
        decisions.append({**stray, "stray": record["host"]})
    return decisions


def _refused(verb: str, decision: dict[str, Any]) -> list[dict[str, Any]]:
    """A decision to wait, or the refusal of what a person has asked for meanwhile."""
    if verb == "recover":
        return [decision]
    raise KvmfleetError(
        "not_finished",
        f"Migration {decision['migration_uuid']} of {decision['instance_name']} cannot be {_PAST[verb]}: {decision['reason']}.",
        migration_uuid=decision["migration_uuid"],
    )


def _told(fleet: Fleet, group: dict[str, dict[str, Any]], ended: list[dict[str, Any]], lost_host: str | None) -> dict[str, Any]:
    """A decision without its action: what the records say of the operation."""
    records = [*group.values(), *ended]
    any_record = records[0]
    source, destination, in_place = group.get("source"), group.get("destination"), group.get("in_place")
    taken = any_record["source_host"] if in_place else next((record["destination_host"] for record in records if record["destination_host"]), None)
    parties = (any_record["source_host"], taken)
    return {
        "migration_uuid": any_record["uuid"],
        "instance_name": any_record["instance_name"],
        "instance_uuid": any_record["instance_uuid"],
        "migration_type": any_record["migration_type"],
        "in_place": in_place is not None,
        "stray": None,
        "source": parties[0],
        "destination": parties[1],
        "source_open": source is not None or in_place is not None,
        "destination_open": destination is not None or in_place is not None,
        "status": any_record["status"],
        "updated_at": max(record["updated_at"] for record in records),
        "age": clocks.youngest(fleet, records),
        "clock": clocks.remark(fleet, records),
        "gone": next((record["owner"] for record in group.values() if record.get("abandoned")), None),
        "worked_on": _worked_on(fleet, group),
        "settled": {record["status"] for record in group.values()} == {"finished"} and (in_place is not None or len(group) == 2),
        "old_flavor": any_record["old_flavor"],
        "new_flavor": any_record["new_flavor"],
        "lost_host": lost_host if lost_host in parties else None,
        "survivor": next((record["host"] for record in [*ended, *group.values()] if lost.may_be_back(fleet, record)), None),
        "settled_as": ended[0]["status"] if ended else None,
    }


def _worked_on(fleet: Fleet, group: dict[str, dict[str, Any]]) -> str | None:
    """The run that still works on it, as far as is known, and how far it is; None where nobody has to be waited for."""
    living = [record for record in group.values() if record["status"] != "finished" and (record.get("progress") or (clocks.leased(fleet, record) or 0) > 0)]
    if not living or any(record.get("abandoned") for record in group.values()):
        return None
    record = clocks.latest(fleet, living)
    who = by((record.get("taken_over_by") or {}).get("by") or record.get("requested_by"))
    progress = next((f", which copies: {copy_progress(each['progress'])}" for each in living if each.get("progress")), "")
    return f"the run that works on it{f' ({who})' if who else ''}{progress}"


def _decide(fleet: Fleet, verb: str, group: dict[str, dict[str, Any]], ended: list[dict[str, Any]], lost_host: str | None) -> dict[str, Any]:
    decision = _told(fleet, group, ended, lost_host)
    unknown = [name for name in (decision["source"], decision["destination"]) if name not in (None, lost_host) and name not in fleet.hosts]
    action, reason = _answer(fleet, decision, group, ended)
    if unknown and action not in ("none", "wait", "back"):  # back acts on the hosts alone that have a record
        action, reason = "wait", f"it names {' and '.join(unknown)}, not in group compute of this inventory (a renamed host, or two inventories?)"
    if verb != "recover":
        _require_answers(fleet, decision, verb)
        if action == "none":
            action, reason = verb, f"it is finished and {verb} was asked for" + (f" without {lost_host}, which is lost" if decision["lost_host"] else "")
        elif action != verb and (action, verb, bool(ended)) != ("discard", "revert", True):
            with_it = f" with lost_host={lost_host}" if decision["lost_host"] else ""
            raise KvmfleetError(
                "not_finished",
                f"Migration {decision['migration_uuid']} of {decision['instance_name']} cannot be {_PAST[verb]}: {reason}. "
                f"Run kvmfleet.compute.recover for it first{with_it}.",
                migration_uuid=decision["migration_uuid"],
            )
    return {**decision, "action": action, "reason": reason}


_PAST = {"confirm": "confirmed", "revert": "reverted"}


def _require_answers(fleet: Fleet, decision: dict[str, Any], verb: str) -> None:
    """Both hosts answer, or the one that does not is lost and its copy is not the one that would be left."""
    what = f"Migration {decision['migration_uuid']} of {decision['instance_name']} cannot be {_PAST[verb]}"
    needed = decision["destination" if verb == "confirm" else "source"]
    if decision["lost_host"] == needed:
        raise KvmfleetError("copy_lost", f"{what} without {needed}: the copy there is the one that would be left. Nothing was changed.", hosts=[needed])
    down = [name for name in (decision["source"], decision["destination"]) if name in fleet.down and name != decision["lost_host"]]
    if down:
        hint = "" if needed in down else f", or with lost_host={down[0]} if that is gone for good"
        raise KvmfleetError(
            "host_unreachable",
            f"{what}: {down[0]} is unreachable ({fleet.down[down[0]]}). Nothing was changed; repeat when it is back{hint}.",
            hosts=down,
        )


def _answer(fleet: Fleet, decision: dict[str, Any], group: dict[str, dict[str, Any]], ended: list[dict[str, Any]]) -> tuple[str, str]:
    source, destination, lost_host = group.get("source"), group.get("destination"), decision["lost_host"]
    if not group:
        return lost.without_open_record(fleet, ended)
    if "in_place" in group:
        return _in_place(fleet, group["in_place"])
    if ended and (answer := lost.of_a_returned_host(next(iter(group.values())), ended[0])):
        return answer
    if destination is not None and lost_host == decision["source"]:
        return lost.without_source(lost_host, destination)
    if source is not None and lost_host is not None:
        return lost.without_destination(lost_host, source)
    return _between(fleet, decision, source, destination)


def _in_place(fleet: Fleet, record: dict[str, Any]) -> tuple[str, str]:
    status = record["status"]
    if status == "finished":
        return "none", "it is finished and waits for confirm or revert"
    if status == "confirming":
        return "confirm", "its confirm was interrupted"
    if status == "reverting":
        return "revert", "its revert was interrupted"
    arrived = _arrived(fleet, record, "with the new flavor")
    if arrived is not None:
        return "forward", arrived
    return "back", f"it was interrupted at step {record['step']} before the guest was started with the new flavor"


def _between(fleet: Fleet, decision: dict[str, Any], source: dict[str, Any] | None, destination: dict[str, Any] | None) -> tuple[str, str]:
    if source is None and destination is not None:
        return _destination_alone(fleet, decision, destination)
    if source is None:
        raise AssertionError("a group has at least one record")
    if source.get("forced") and source["status"] == "migrating":
        return "back", f"it was being taken back, since {source['forced']['lost_host']} had been given up as lost"
    if destination is not None and source["step"] in _UNSEALED_STEPS and destination["status"] in ("post-migrating", "finished", "confirming"):
        return "wait", (
            f"the destination says {destination['status']}, but its source was never sealed (step {source['step']}), so that the guest cannot be there: "
            "look at both hosts before you decide"
        )
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
    arrived = _arrived(fleet, destination, "at the destination")
    if arrived is not None:
        return "forward", arrived
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
            "the guest may run there, so nothing is started here until it answers; if it is gone for good, name it as lost_host"
        )
    if source["status"] == "finished":
        return "wait", f"the source says finished, but the journal of {peer} knows nothing of it: look at the guest there before you decide"
    return "back", f"the destination {peer} holds nothing of it (any more)"


def _destination_alone(fleet: Fleet, decision: dict[str, Any], destination: dict[str, Any]) -> tuple[str, str]:
    peer = decision["source"]
    if peer not in fleet.hosts or peer in fleet.down:
        return "wait", (
            f"the source {peer} is unreachable ({fleet.down.get(peer, 'not in this inventory')}), so it is unknown what it holds of the guest; "
            "if it is gone for good, name it as lost_host"
        )
    if destination["status"] == "confirming":
        return "confirm", "the source copy is gone, only the destination's record is open"
    if destination["status"] == "reverting":
        return "revert", "the guest is back at its source, only leftovers at the destination remain"
    if destination["status"] in ("finished", "post-migrating") or _has_run(destination) is not None:
        return "wait", f"the destination says {destination['status']}, but the journal of {peer} has no open record of it: look at both hosts before you decide"
    return "discard", "the source is as before; only leftovers at the destination remain"


def _arrived(fleet: Fleet, record: dict[str, Any], where: str) -> str | None:
    """Why the guest is where the complete copy of the record is, so that nothing but a person's revert goes back; None if it has not got there."""
    if record["status"] == "post-migrating" and not record.get("was_running"):
        return f"the guest is {where} already"
    why = _has_run(record)
    if why is None:
        return None
    state = next((entry["state"] for entry in fleet.hosts[record["host"]].get("domains", []) if entry["uuid"] == record["instance_uuid"]), None)
    if state == "running":
        return f"the guest runs {where} ({why})"
    now = "not defined there any more" if state is None else f"{_STATES.get(state, state)} there now"
    return f"the guest counts as started {where} ({why}); it is {now} and is not started again"


_STATES = {"shutoff": "shut off", "pmsuspended": "suspended"}


def _has_run(record: dict[str, Any]) -> str | None:
    """Why the guest counts as started on the copy of the record: what its host proves, or where that proves nothing, that it may have been."""
    if "has_run" in record:
        return record["has_run"]
    proven = record["status"] != "post-migrating" or record.get("withdrawing")
    return None if proven else "whether it was started there is not proven"
