# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The programme of a restore: what the drain has stopped is started, and who came from the host goes home, if somebody asks for that and there is room."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ansible_collections.kvmfleet.compute.plugins.module_utils._rules.errors import KvmfleetError
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.fleet import classes, drain, estimates, order
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.fleet.groups import Groups
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.fleet.options import DrainOptions
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.fleet.programme import OFF, RUNNING, START, STAY, STOP, Guest, Move, Programme, Told
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.fleet.proof import Asked, Proof, loaded, prove
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.planning import check, maintenance
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.planning.fleet import Fleet
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.planning.server_groups import is_member
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.options import Options
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.request import Request

NONE, ALL = "none", "all"
MOVE, CONFIRM_MOVE, REVERT = "move", "confirm_move", "revert"


@dataclass(frozen=True)
class _Away:
    """A guest that came from the host: where it is now, and its operation that waits for confirm, if there is one."""

    host: str
    entry: Mapping[str, Any]
    waiting: Mapping[str, Any] | None


def plan_restore(
    facts: Iterable[Mapping[str, Any]],
    host: str,
    described: Iterable[Mapping[str, Any]],
    back: str | Sequence[str],
    options: DrainOptions,
    scheduler: Mapping[str, Any],
    now: float,
) -> Programme:
    """What has to be done so that a host is in service again.

    :param facts: see `Fleet`; :param described: for the hosts of guests that go home, `host` and `guests`, as for `plan_drain`.
    :param back: `none`, `all`, or names, UUIDs or patterns of guests; :param now: the time by the controller's clock.
    :raises KvmfleetError: `no_compute_hosts`, `unknown_host`, `host_unreachable`, `hosts_missing`, `not_from_here`, `after_cycle`.
    """
    given = Fleet([dict(state) for state in facts])
    drain.require_hosts(given, [host], "brought back into service")
    record = maintenance.record_of(given.hosts[host]) or {}
    fleet = Fleet([{**state, "maintenance": None} if name == host else state for name, state in given.hosts.items()])
    decisions = drain.open_operations(fleet)
    away = _away(fleet, host, decisions)
    wanted = [one for one in away if _is_wanted(back, one)]
    _require_from_here(back, wanted, host)
    looked = classes.Looked(
        fleet=fleet,
        groups=Groups(fleet, options.server_groups),
        options=options,
        described=classes.described(described),
        decisions={uuid: decision for uuid, decision in decisions.items() if uuid not in {one.entry["uuid"] for one in wanted if one.waiting is not None}},
        now=now,
    )
    reverts = [_revert(one, host) for one in wanted if _can_revert(fleet, one, host)]
    others = [one for one in wanted if not _can_revert(fleet, one, host)]
    classed = {one.entry["uuid"]: classes.class_of(looked, one.host, one.entry) for one in others}
    movers, refused, lanes = drain.kept_up(list(classed.values()), looked.groups)
    movers = [each for each in movers if each.told is None]
    proof = _prove(looked, movers, others, host, scheduler)
    moves = [_move(looked, each, next(one for one in others if one.entry["uuid"] == each.guest.uuid), proof, host) for each in movers if _has_room(each, proof)]
    stays = [
        *(_stays(each.told) for each in classed.values() if each.told is not None),
        *map(_stays, refused),
        *(_no_room(each, proof, host) for each in movers if not _has_room(each, proof)),
        *(_not_asked(one, host) for one in away if one not in wanted),
    ]
    return Programme(
        hosts=(host,),
        moves=tuple(order.ordered([*reverts, *moves], drain.after(movers, ()), looked.groups, lanes, options.canary)),
        starts=tuple(_starts(fleet, host, record)),
        stays=tuple(sorted(stays, key=lambda told: told.guest.instance)),
        searched=proof.searched,
    )


def _away(fleet: Fleet, host: str, decisions: Mapping[str, Mapping[str, Any]]) -> list[_Away]:
    """Guests whose origin is the host and that are elsewhere, whatever journal says so."""
    found = []
    for name, state in fleet.hosts.items():
        for entry in state.get("domains", []) if name != host and name not in fleet.down else ():
            origin = maintenance.origin(state, entry)
            if origin is not None and origin["host"] == host:
                decision = decisions.get(entry["uuid"])
                waiting = decision is not None and decision["settled"] and not decision["in_place"] and decision["destination"] == name
                found.append(_Away(name, entry, decision if waiting else None))
    return sorted(found, key=lambda one: (one.entry["name"], one.entry["uuid"]))


def _is_wanted(back: str | Sequence[str], one: _Away) -> bool:
    if isinstance(back, str):
        return back == ALL
    return is_member(list(back), one.entry["name"], one.entry["uuid"])


def _require_from_here(back: str | Sequence[str], wanted: Sequence[_Away], host: str) -> None:
    """:raises KvmfleetError: `not_from_here`, for a name that means nobody."""
    asked = [] if isinstance(back, str) else back
    for name in asked:
        if not any(is_member([name], one.entry["name"], one.entry["uuid"]) for one in wanted):
            raise KvmfleetError(
                "not_from_here",
                f"back: {name!r} is no guest that a drain took from {host} and that is elsewhere now. Nothing was changed. A guest of another origin is moved "
                f"by kvmfleet.compute.migrate (target_host={host}).",
                instance=name,
            )


def _can_revert(fleet: Fleet, one: _Away, host: str) -> bool:
    """Whether nothing is lost by going back to the sealed copy: it lies here, and the guest has not run since it left."""
    if one.waiting is None or one.waiting["source"] != host or one.entry["state"] != "shutoff":
        return False
    records = [record for record in fleet.open_migrations(one.entry["uuid"]) if record["uuid"] == one.waiting["migration_uuid"]]
    arrived = next((record for record in records if record["role"] == "destination"), None)
    return arrived is not None and "has_run" in arrived and arrived["has_run"] is None


def _revert(one: _Away, host: str) -> Move:
    guest = Guest(one.entry["name"], one.entry["uuid"], one.host, one.entry["state"], maintenance.MOVE, OFF, wants=estimates.wants(one.entry))
    number = one.waiting["migration_uuid"] if one.waiting else None
    return Move(guest, host, "its copy is here still, and it has not run since it left", seconds=estimates.STEPS, how=REVERT, migration_uuid=number)


def _prove(looked: classes.Looked, movers: Sequence[classes.Classed], away: Sequence[_Away], host: str, scheduler: Mapping[str, Any]) -> Proof:
    """The host has room for all of these, once what is confirmed first holds nothing here any more."""
    states = loaded(looked.fleet, (), Options.build(scheduler))
    requests = {each.guest.uuid: _request(each, movers, looked.groups, host) for each in movers}
    for one in away:
        request = requests.get(one.entry["uuid"])
        if request is not None and one.waiting is not None and one.waiting["source"] == host:
            states.release(host, one.entry["uuid"], request.flavor)
    return prove(states, [_asked(each, requests[each.guest.uuid], looked.groups) for each in movers])


def _request(each: classes.Classed, movers: Sequence[classes.Classed], groups: Groups, host: str) -> Request:
    """Home it is or nowhere. Members of an affinity group that go home as well hold none of it back."""
    asked = dict(each.asked or {})
    group = dict(asked.get("server_group") or {})
    if group.get("policy") == "affinity":
        going = {other.guest.uuid for other in movers if other is not each and groups.of_guest.get(other.guest.uuid) == each.guest.group}
        group["members"] = [member for member in group["members"] if member not in going]
    return Request.build({**asked, "target_host": host, "availability_zone": "any", "server_group": group})


def _asked(each: classes.Classed, request: Request, groups: Groups) -> Asked:
    group = groups.group(each.guest.uuid)
    return Asked(each.guest.uuid, request, group.name if group is not None and group.policy == "affinity" else None)


def _has_room(each: classes.Classed, proof: Proof) -> bool:
    return each.guest.uuid in proof.placed


def _move(looked: classes.Looked, each: classes.Classed, one: _Away, proof: Proof, host: str) -> Move:
    guest = each.guest
    last = looked.options.downtimes.get(guest.uuid)
    seconds = estimates.seconds(looked.fleet, one.host, host, guest.wants.copy_bytes, guest.downtime == RUNNING, last)
    how, number = (MOVE, None) if one.waiting is None else (CONFIRM_MOVE, one.waiting["migration_uuid"])
    return Move(guest, proof.placed[guest.uuid].host, "it came from here", seconds=seconds, how=how, migration_uuid=number)


def _stays(told: Told) -> Told:
    return replace(told, guest=replace(told.guest, kind=STAY))


def _no_room(each: classes.Classed, proof: Proof, host: str) -> Told:
    reasons = check.nowhere({host: proof.unplaced[each.guest.uuid]["rejected"].get(host, ())}, each.guest.host)
    message = f"it stays on {each.guest.host}: {reasons}"
    return Told(replace(each.guest, kind=STAY), "no_valid_host", message)


def _not_asked(one: _Away, host: str) -> Told:
    downtime = OFF if one.entry["state"] == "shutoff" else RUNNING
    guest = Guest(one.entry["name"], one.entry["uuid"], one.host, one.entry["state"], STAY, downtime, wants=estimates.wants(one.entry))
    return Told(guest, "not_asked", f"it came from {host} and stays on {one.host}", option=f"back={one.entry['name']}")


def _starts(fleet: Fleet, host: str, record: Mapping[str, Any]) -> Iterator[Told]:
    """What the drain has stopped, and is off still."""
    for entry in sorted(fleet.hosts[host].get("domains", []), key=lambda entry: entry["name"]):
        noted = maintenance.noted(record, entry["uuid"])
        if noted.get("class") == STOP and noted.get("power_state") == "running" and entry["state"] == "shutoff":
            guest = Guest(entry["name"], entry["uuid"], host, entry["state"], START, OFF, wants=estimates.wants(entry))
            yield Told(guest, "stopped_by_drain", "the drain has shut it down")
