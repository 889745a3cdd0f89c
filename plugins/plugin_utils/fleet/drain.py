# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The programme of a drain: every guest of the hosts has a class, every one that moves has a place, all of them together, or nothing begins."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ansible_collections.kvmfleet.compute.plugins.module_utils._rules.errors import KvmfleetError
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.fleet import classes, cures, estimates, order, windows
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.fleet.groups import Groups
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.fleet.options import DrainOptions
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.fleet.programme import (
    BUSY,
    LEAVE,
    OFF,
    REFUSE,
    RUNNING,
    STOP,
    UNMOVABLE,
    Guest,
    Move,
    Programme,
    Told,
)
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.fleet.proof import Asked, Ejected, Proof, loaded, prove
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.planning import maintenance, recovery
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.planning.fleet import Fleet
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.planning.maintenance import MOVE
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.planning.server_groups import is_member
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.options import Options
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.request import Request
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.validation import ValidationError, check_name, sequence

_AFFINITY = "affinity"


def plan_drain(
    facts: Iterable[Mapping[str, Any]],
    hosts: Sequence[str],
    described: Iterable[Mapping[str, Any]],
    options: DrainOptions,
    scheduler: Mapping[str, Any],
    now: float,
) -> Programme:
    """What has to be done so that nothing is left that can start on these hosts.

    :param facts: see `Fleet`; :param hosts: those that are to be emptied.
    :param described: for each of them, and of other hosts for those whose guests may make room, `host` and `guests`, what the module domain_info answers
        about all of a host. :param now: the time by the controller's clock.
    :raises KvmfleetError: `no_compute_hosts`, `unknown_host`, `host_unreachable`, `hosts_missing`, `after_cycle`; ValidationError.
    """
    fleet = Fleet([dict(state) for state in facts])
    drained = require_hosts(fleet, hosts)
    decisions = open_operations(fleet)
    guests = classes.described(described)
    classed: list[classes.Classed] = []
    for _pass in range(2):  # who turns out to stay holds the rest of an affinity group back
        closed = _closed(fleet, drained, options.reason, classed)
        looked = classes.Looked(closed, Groups(closed, options.server_groups, drained), options, guests, decisions, now)
        classed = classes.classify(looked, drained)
    movers, refused, lanes = kept_up(classed, looked.groups)
    proof = _prove(looked, drained, movers, scheduler)
    told = [each.told for each in classed if each.told is not None]
    listed = {kind: [one for one in told if one.guest.kind == kind] for kind in (STOP, LEAVE, BUSY, UNMOVABLE, REFUSE)}
    refused += [cures.no_room(closed, looked.groups, proof, each.guest, drained) for each in movers if each.guest.uuid in proof.unplaced]
    waits = [_wait(each, proof) for each in movers if each.told is not None and each.guest.uuid in proof.placed]
    moves = [_move(looked, each, proof) for each in movers if each.told is None and each.guest.uuid in proof.placed]
    ejections = [_ejection(looked, ejected) for ejected in proof.ejected if ejected.makes_room_for in {move.guest.uuid for move in moves}]
    return Programme(
        hosts=drained,
        moves=tuple(order.ordered([*ejections, *moves], after(movers, proof.ejected), looked.groups, lanes, options.canary)),
        stops=tuple(listed[STOP]),
        leaves=tuple(listed[LEAVE]),
        waits=tuple(waits),
        busy=(*listed[BUSY], *classes.in_hand(looked, drained)),
        unmovable=tuple(listed[UNMOVABLE]),
        refused=(*listed[REFUSE], *refused),
        copies=tuple(_copies(decisions, drained)),
        arriving=tuple(_arriving(decisions, fleet, drained)),
        searched=proof.searched,
    )


def open_operations(fleet: Fleet) -> dict[str, dict[str, Any]]:
    """What is to become of each open operation, by the UUID of its guest."""
    decided = recovery.decide(list(fleet.hosts.values()), "recover")
    return {decision["instance_uuid"]: decision for decision in decided if decision["source_open"] or decision["destination_open"]}


def require_hosts(fleet: Fleet, hosts: Sequence[str], done: str = "emptied") -> tuple[str, ...]:
    """:raises KvmfleetError: one of them is none of the fleet, or does not answer; or the fleet is not whole."""
    drained = tuple(dict.fromkeys(check_name("hosts", name) for name in sequence("hosts", hosts)))
    if not drained:
        raise ValidationError("hosts", hosts, "the names of the hosts")
    for name in drained:
        if name not in fleet.hosts:
            raise KvmfleetError("unknown_host", f"hosts: {name!r} is not in inventory group compute; known: {', '.join(sorted(fleet.hosts))}.")
        if name in fleet.down:
            raise KvmfleetError(
                "host_unreachable",
                f"{name} does not answer ({fleet.down[name]}), so it cannot be {done}. Nothing was changed. Repeat when it answers; if it is gone for "
                f"good, end its open operations with kvmfleet.compute.recover -e lost_host={name}.",
                hosts=[name],
            )
        if not fleet.hosts[name].get("read_now"):
            message = f"{name} was not asked in this run, so it is not known which guests it has now. Nothing was changed."
            raise KvmfleetError("facts_missing", message, hosts=[name])
    fleet.require_parties()
    return drained


def _closed(fleet: Fleet, drained: Sequence[str], reason: str, classed: Sequence[classes.Classed]) -> Fleet:
    """The fleet as it is once these hosts are closed, whatever an earlier run has noted there."""
    kinds = {each.guest.uuid: each.told.guest.kind for each in classed if each.told is not None and each.asked is None}
    states = []
    for name, state in fleet.hosts.items():
        if name in drained:
            noted = {entry["uuid"]: {"class": kinds.get(entry["uuid"], MOVE)} for entry in state.get("domains", [])}
            state = {**state, "maintenance": {"state": "draining", "reason": reason or "this drain", "guests": noted}}
        record = maintenance.record_of(state)
        if name not in drained and record is not None and record.get("state") == maintenance.RESTORING:
            state = {**state, "maintenance": f"restoring, {record.get('reason')}"}  # it takes those who come home, and nobody else
        states.append(state)
    return Fleet(states)


def kept_up(classed: Sequence[classes.Classed], groups: Groups) -> tuple[list[classes.Classed], list[Told], dict[str, int]]:
    """Those that may move, those that their group needs, and how many of each group may move at once."""
    stopped = {each.guest.uuid for each in classed if each.told is not None and each.told.guest.kind == STOP and each.guest.downtime == RUNNING}
    lanes, movers, refused = {}, [], []
    for each in classed:
        group = groups.group(each.guest.uuid)
        lane = None if group is None else group.lane(stopped)
        stops = each.guest.uuid in stopped
        goes_down = each.guest.downtime == RUNNING and (each.asked is not None or stops)
        if group is not None and lane is not None and goes_down and (lane < 0 if stops else lane < 1):
            error = group.refusal(each.guest.instance, stopped)
            refused.append(Told(replace(each.guest, kind=REFUSE), error.code, error.message, error.details["option"], details=error.details))
        elif each.asked is not None:
            movers.append(each)
        if group is not None and lane is not None and lane > 0:
            lanes[group.name] = lane
    return movers, refused, lanes


def _prove(looked: classes.Looked, drained: tuple[str, ...], movers: Sequence[classes.Classed], scheduler: Mapping[str, Any]) -> Proof:
    asked = [_asked(each, looked.groups) for each in movers]
    ejectable = _ejectable(looked, drained) if looked.options.eject else []
    return prove(loaded(looked.fleet, drained, Options.build(scheduler)), asked, ejectable)


def _asked(each: classes.Classed, groups: Groups) -> Asked:
    group = groups.group(each.guest.uuid)
    together = group.name if group is not None and group.policy == _AFFINITY else None
    return Asked(each.guest.uuid, Request.build(each.asked), together)


def _ejectable(looked: classes.Looked, drained: tuple[str, ...]) -> list[Asked]:
    """Guests of other hosts that nothing speaks against moving: those of a group are left alone."""
    others = tuple(name for name, state in looked.fleet.hosts.items() if name not in drained and name not in looked.fleet.down and not state.get("maintenance"))
    found = [each for each in classes.classify(looked, others) if each.asked is not None and each.told is None and each.guest.group is None]
    return [Asked(each.guest.uuid, Request.build(each.asked)) for each in found]


def _move(looked: classes.Looked, each: classes.Classed, proof: Proof) -> Move:
    placed, guest = proof.placed[each.guest.uuid], each.guest
    last = looked.options.downtimes.get(guest.uuid)
    seconds = estimates.seconds(looked.fleet, guest.host, placed.host, guest.wants.copy_bytes, guest.downtime == RUNNING, last)
    return Move(guest, placed.host, placed.reason, placed.alternates, seconds=seconds, until=windows.closes(each.policy.windows, looked.now))


def _wait(each: classes.Classed, proof: Proof) -> Told:
    """It has its place as well, so that the rest does not take it away."""
    if each.told is None:
        raise AssertionError("only a guest that waits is asked about")
    return replace(each.told, destination=proof.placed[each.guest.uuid].host)


def _ejection(looked: classes.Looked, ejected: Ejected) -> Move:
    entry = next(entry for entry in looked.fleet.hosts[ejected.host]["domains"] if entry["uuid"] == ejected.uuid)
    running = entry["state"] != "shutoff"
    guest = Guest(entry["name"], ejected.uuid, ejected.host, entry["state"], MOVE, RUNNING if running else OFF, wants=estimates.wants(entry))
    for_whom = next(each["name"] for state in looked.fleet.hosts.values() for each in state.get("domains", []) if each["uuid"] == ejected.makes_room_for)
    seconds = estimates.seconds(looked.fleet, ejected.host, ejected.placed.host, guest.wants.disk_bytes, running, looked.options.downtimes.get(guest.uuid))
    reason = f"makes room for {for_whom} on {ejected.host}, once it is confirmed"
    return Move(guest, ejected.placed.host, reason, ejected.placed.alternates, seconds=seconds, ejection=True)


def after(movers: Sequence[classes.Classed], ejected: Sequence[Ejected]) -> dict[str, set[str]]:
    """Who has to run again before whom."""
    found: dict[str, set[str]] = {each.makes_room_for: {each.uuid} for each in ejected}
    for each in movers:
        for other in movers:
            if other is not each and is_member([*each.policy.after], other.guest.instance, other.guest.uuid):
                found.setdefault(each.guest.uuid, set()).add(other.guest.uuid)
    return found


def _copies(decisions: Mapping[str, Mapping[str, Any]], drained: Sequence[str]) -> list[dict[str, Any]]:
    """Finished operations that keep a sealed copy on one of these hosts."""
    found = [decision for decision in decisions.values() if decision["settled"] and not decision["in_place"] and decision["source"] in drained]
    return [_operation(decision, decision["source"]) for decision in sorted(found, key=lambda decision: decision["instance_name"])]


def _arriving(decisions: Mapping[str, Mapping[str, Any]], fleet: Fleet, drained: Sequence[str]) -> list[dict[str, Any]]:
    """Guests that are on their way to one of these hosts, and are not defined there yet."""
    found = [decision for decision in decisions.values() if not decision["settled"] and decision["destination"] in drained and not decision["in_place"]]
    here = [decision for decision in found if decision["destination"] not in fleet.defined_on(decision["instance_uuid"])]
    return [_operation(decision, decision["destination"]) for decision in sorted(here, key=lambda decision: decision["instance_name"])]


def _operation(decision: Mapping[str, Any], host: str) -> dict[str, Any]:
    keys = ("instance_name", "instance_uuid", "migration_uuid", "source", "destination", "status", "worked_on")
    return {"host": host, **{key: decision[key] for key in keys}}
