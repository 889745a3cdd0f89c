# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The plan of one resize or cold migration: everything that can be decided before a guest is touched, in one object.

Check mode, diff, the printed table and the run read this object; nothing decides twice.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ansible_collections.kvmfleet.compute.plugins.module_utils._rules import exclusive as _exclusive, handed_plan as _handed_plan
from ansible_collections.kvmfleet.compute.plugins.module_utils._rules.domain_facts import DomainFacts
from ansible_collections.kvmfleet.compute.plugins.module_utils._rules.errors import KvmfleetError
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.planning import (
    extra_specs,
    facts,
    flavor_disks,
    guest,
    mapping,
    needs,
    precopy,
    record,
    references,
    server_groups,
    storage,
)
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.planning.flavors import describe, flavor_field, same
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.planning.fleet import Fleet
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.planning.plan import IN_PLACE, MOVE, NONE, ForHost, Plan, born
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.fleet_state import FleetState
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.options import Options
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.select import select_destinations
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.validation import ValidationError, boolean

GIB = 1024**3


@dataclass(frozen=True)
class _Wanted:
    """What a request comes to for its guest, before anybody looks for a host.

    :param entry: what the fleet knows of the instance, on `host`; :param domain: what that host tells of it.
    :param old: the flavor in force, :param new: the one asked for, with the root disk that the guest keeps; `old` for a cold migration.
    :param root_size: bytes that the root disk is to have at least, 0 where it stays; :param tuning: what the flavor sets in the definition.
    :param dedicated: the vCPUs of each NUMA cell, where it asks for CPUs of its own.
    :param grow_filesystem: the disk whose filesystem is to be grown afterwards, or None.
    """

    fleet: Fleet
    request: Mapping[str, Any]
    host: str
    entry: Mapping[str, Any]
    domain: DomainFacts
    old: dict[str, Any]
    new: dict[str, Any]
    keeps_disk: bool
    root_size: int
    tuning: dict[str, Any] | None
    dedicated: list[list[int]] | None
    grow_filesystem: str | None

    @property
    def name(self) -> str:
        return self.entry["name"]

    @property
    def resizing(self) -> bool:
        return self.request["flavor"] is not None


@dataclass(frozen=True)
class _Placed:
    """Where it is to run.

    :param hosts: the destination and its alternates; the host itself alone where it stays.
    :param group: its server group, or None; :param disks: what becomes of the disks that the flavor is about.
    """

    placement: dict[str, Any]
    hosts: list[str]
    in_place: bool
    group: dict[str, Any] | None
    disks: flavor_disks.Changes

    @property
    def named(self) -> mapping.Names:
        """What the guest refers to, as the scheduler was asked."""
        return self.placement["request"]["requirements"]["named"]


def plan_migration(
    hosts: list[dict[str, Any]],
    domain: DomainFacts | None,
    request: dict[str, Any],
    scheduler: dict[str, Any],
) -> Plan:
    """Decide what a request comes to in a fleet; the parameters and the result are those of `plan_in`.

    :param hosts: see `Fleet`.
    """
    return plan_in(Fleet(hosts), domain, request, scheduler)


def plan_in(fleet: Fleet, domain: DomainFacts | None, request: dict[str, Any], scheduler: dict[str, Any]) -> Plan:
    """Decide what a request comes to.

    :param domain: the module domain_info's answer from the host that defines the instance.
    :param request: `instance`, `flavor` (resolved, or None for a cold migration), `zone`, `target_host`, `ignore_hosts`,
        `allow_resize_to_same_host`, `allow_downsize`, `keep_disk`, `precopy` (see `precopy.check`), `grow_filesystem`, `ignored_flavor_keys`,
        `live_differences` (`keep`, `drop` or nothing), `part_of` (the drain or restore that the move belongs to, or nothing),
        `server_groups` (`kvmfleet_server_groups`), `scheduler_hints`, and for Nova's filters that ask about them `project_id` and `image_id`.
    :raises KvmfleetError: the request cannot be carried out.
    """
    ahead = precopy.check(request.get("precopy"))
    wanted = _wanted(fleet, domain, request)
    nothing = _nothing_to_do(wanted)
    if nothing is not None:
        return nothing
    live = _require_movable(wanted)
    return _planned(wanted, _place(wanted, scheduler), live, ahead, scheduler)


def question(fleet: Fleet, domain: DomainFacts | None, request: dict[str, Any]) -> dict[str, Any]:
    """What a cold migration asks the scheduler, after every refusal that needs no other host; the parameters are those of `plan_in`.

    :raises KvmfleetError: the guest cannot be moved, wherever to.
    """
    precopy.check(request.get("precopy"))
    wanted = _wanted(fleet, domain, request)
    _waiting(wanted)
    noted = _noted(wanted, flavor_disks.NONE, _require_movable(wanted))
    _require_possible(wanted.host, noted, {"": needs.of_destination(wanted.domain, {})})
    hints = server_groups.hints_of(fleet, request.get("scheduler_hints"))
    group = server_groups.group_of(fleet, request.get("server_groups"), wanted.entry, hints)
    return _asked(wanted, flavor_disks.NONE, group, hints)


def _wanted(fleet: Fleet, domain: DomainFacts | None, request: dict[str, Any]) -> _Wanted:
    host, entry = fleet.locate(request["instance"])
    if domain is None:
        raise KvmfleetError("unknown_instance", f"{request['instance']!r} is not defined on {host} any more.", instance=request["instance"])
    try:
        facts.check_guest(domain)
    except ValidationError as exc:
        raise _impossible(host, entry["name"], str(exc), field=exc.field) from exc
    old: dict[str, Any] = {"ephemeral": 0, "swap": 0, "extra_specs": {}, **domain["flavor"]}
    flavor = request["flavor"]
    keeps_disk = flavor is not None and (not flavor["disk"] or boolean("keep_disk", request.get("keep_disk"), False))
    new = old if flavor is None else {**flavor, "disk": old["disk"]} if keeps_disk else flavor
    grown = guest.root_disk(domain) if boolean("grow_filesystem", request.get("grow_filesystem"), False) and flavor is not None else None
    return _Wanted(
        fleet=fleet,
        request=request,
        host=host,
        entry=entry,
        domain=domain,
        old=old,
        new=new,
        keeps_disk=keeps_disk,
        root_size=0 if flavor is None or keeps_disk else new["disk"] * GIB,
        tuning=None if flavor is None else extra_specs.tuning(flavor_field(new), new),
        dedicated=extra_specs.dedicated_cells(flavor_field(new), new),
        grow_filesystem=grown["target"] if grown else None,
    )


def _nothing_to_do(wanted: _Wanted) -> Plan | None:
    """The plan of a request whose guest is as it asks already; None where there is something to do."""
    name, host, old, new = wanted.name, wanted.host, wanted.old, wanted.new
    if wanted.resizing and same(old, new):
        message = f"Instance {name} on {host} already has {describe(new)}; nothing to do."
        return born(NONE, message, host, _diff(host, old, host, new), grow_filesystem=wanted.grow_filesystem)
    if not wanted.resizing and wanted.request["target_host"] == host:
        return born(NONE, f"Instance {name} is already on {host}; nothing to do.", host, _diff(host, old, host, new))
    waiting = _waiting(wanted)
    return born(NONE, waiting, host, _diff(host, old, host, new)) if waiting else None


def _require_movable(wanted: _Wanted) -> dict[str, Any]:
    """The guest can be stopped, and can have the flavor.

    :returns: the live differences, with what the caller says to them.
    """
    guest.require_movable(wanted.entry, wanted.domain, wanted.host)
    answer = wanted.request.get("live_differences") or None
    live = {"answer": answer, "found": guest.require_as_defined(wanted.name, wanted.domain, answer)}
    guest.require_growth(wanted.name, wanted.domain, wanted.old, wanted.new, wanted.request["allow_downsize"], wanted.keeps_disk)
    guest.require_limits(wanted.name, wanted.domain, wanted.tuning)
    return live


def _disks(wanted: _Wanted, moving: bool) -> flavor_disks.Changes:
    return flavor_disks.changes(wanted.name, wanted.domain, wanted.new, moving=moving) if wanted.resizing else flavor_disks.NONE


def _place(wanted: _Wanted, scheduler: dict[str, Any]) -> _Placed:
    """:raises KvmfleetError: `no_valid_host`, and for disks that cannot be as the flavor wants them where the guest is to run."""
    fleet, request, host = wanted.fleet, wanted.request, wanted.host
    disks = {moving: _disks(wanted, moving) for moving in (True, False)}
    hints = server_groups.hints_of(fleet, request.get("scheduler_hints"))
    group = server_groups.group_of(fleet, request.get("server_groups"), wanted.entry, hints)
    asked = _asked(wanted, disks[True], group, hints)
    placement = {**select_destinations(list(fleet.hosts.values()), asked, scheduler), "request": asked}
    if placement["selected"] is None:
        down = "".join(f"\n{name} was not asked: {reason}" for name, reason in sorted(fleet.down.items()))
        message = f"No host can take {wanted.name} with {describe(wanted.new)}; nothing was changed.\n{placement['message']}{_ways_out(placement)}{down}"
        raise KvmfleetError("no_valid_host", message, placement=placement)
    candidates = [placement["selected"]] + ([] if request["target_host"] else placement["alternates"])
    in_place = candidates[0] == host
    flavor_disks.require_no_snapshots(wanted.name, wanted.domain, disks[not in_place])
    if in_place:
        guest.require_no_encryption(wanted.name, wanted.domain)
        guest.require_layers_bearable(wanted.domain)
    return _Placed(placement, [host] if in_place else [name for name in candidates if name != host], in_place, group, disks[not in_place])


def _asked(wanted: _Wanted, disks: flavor_disks.Changes, group: dict[str, Any] | None, hints: dict[str, Any]) -> dict[str, Any]:
    """The question that the scheduler answers."""
    request, source = wanted.request, wanted.fleet.hosts[wanted.host]
    return {
        "instance": {"name": wanted.name, "uuid": wanted.entry["uuid"], "host": wanted.host, "availability_zone": None, "flavor": wanted.old},
        "flavor": wanted.new,
        "project_id": request.get("project_id"),
        "image": {"id": request.get("image_id"), "properties": _image_properties(wanted.domain)},
        "server_group": {key: value for key, value in (group or {}).items() if key != "name"},
        "scheduler_hints": hints,
        "requirements": {
            **needs.for_scheduler(wanted.domain, wanted.new if wanted.resizing else None, wanted.root_size, disks),
            **storage.needs(wanted.domain, source, disks),
            "named": mapping.named(wanted.domain, source),
        },
        "availability_zone": request["zone"],
        "target_host": request["target_host"],
        "ignore_hosts": list(request["ignore_hosts"]),
        "allow_resize_to_same_host": bool(wanted.resizing and request["allow_resize_to_same_host"]),
    }


def _planned(wanted: _Wanted, placed: _Placed, live: dict[str, Any], ahead: Any, scheduler: dict[str, Any]) -> Plan:
    """The plan, every value of which both ends can be told."""
    domain, host, hosts = wanted.domain, wanted.host, wanted.fleet.hosts
    mappings = {name: mapping.translated(placed.named, hosts[name]) for name in placed.hosts}
    outside = [] if placed.in_place else references.answers(domain, mappings[placed.hosts[0]])
    copied = {} if placed.in_place else _copied_ahead(wanted, placed, ahead)
    noted = _noted(wanted, placed.disks, live)
    more = {"dedicated": wanted.dedicated, "server_group": placed.group}
    requirements = {name: {**needs.of_destination(domain, mappings[name]), **more} for name in placed.hosts}
    _require_possible(host, noted, requirements)
    ratios = _ratios(wanted.fleet, placed.hosts, scheduler)
    needed: dict[str, ForHost] = {
        name: {
            "ratios": ratios[name],
            "storage": storage.place(domain, hosts[host], hosts[name], mappings[name], placed.disks),
            "mappings": mappings[name],
            "requirements": requirements[name],
            **({"precopy": copied[name]} if name in copied else {}),
        }
        for name in placed.hosts
    }
    return born(
        IN_PLACE if placed.in_place else MOVE,
        _message(wanted, placed, copied, live, scheduler),
        host,
        _diff(host, wanted.old, placed.hosts[0], wanted.new),
        candidates=placed.hosts,
        **{"for": {name: needed[name] for name in placed.hosts}},
        live_differences=live,
        references=outside,
        references_text=references.lines(outside),
        placement=placed.placement,
        record=noted,
        grow_filesystem=wanted.grow_filesystem,
    )


def _noted(wanted: _Wanted, disks: flavor_disks.Changes, live: dict[str, Any]) -> dict[str, Any]:
    """The record of it."""
    return record.begun(
        wanted.entry,
        wanted.domain,
        wanted.host,
        wanted.old,
        wanted.new,
        wanted.root_size,
        disks,
        tuning=wanted.tuning,
        zone=wanted.request["zone"],
        live_differences=live,
        part_of=wanted.request.get("part_of") or None,
    )


def _copied_ahead(wanted: _Wanted, placed: _Placed, ahead: Any) -> dict[str, Any]:
    """Whether each destination gets the disks in rounds, while the guest runs."""
    travelling = wanted.domain.copy()
    travelling["disks"] = [disk for disk in wanted.domain["disks"] if disk["target"] not in placed.disks.left_behind]
    rates = {name: wanted.fleet.hosts[name].get("copy_rates") or {} for name in placed.hosts}
    return {name: precopy.decide(ahead, travelling, rates[name].get(wanted.host)) for name in placed.hosts}


def _message(wanted: _Wanted, placed: _Placed, copied: dict[str, Any], live: dict[str, Any], scheduler: dict[str, Any]) -> str:
    verb, destination = "resize" if wanted.resizing else "migrate", placed.hosts[0]
    what = f"{verb} {wanted.name} from {describe(wanted.old)} on {wanted.host} to {describe(wanted.new)} on {destination}"
    zone = wanted.fleet.hosts[destination].get("availability_zone") or Options.build(scheduler).default_availability_zone
    where = ", in place." if placed.in_place else f", zone {zone}, {_ahead(copied[destination])}."
    return f"Plan: {what}{where}{_without_meaning(wanted.request)}{_told(live)}"


def _ways_out(placement: dict[str, Any]) -> str:
    """What can be done where a host has what the guest wants to itself."""
    codes = {reason["code"] for reasons in placement["rejected"].values() for reason in reasons}
    ways = _exclusive.ways_out(kind for kind, known in _exclusive.KINDS.items() if known.code in codes)
    return "".join(["\nWhere a host has what the guest wants to itself:", *(f"\n  {number}. {way}" for number, way in enumerate(ways, 1))]) if ways else ""


def _told(live: dict[str, Any]) -> str:
    """What becomes of all that the guest has and its definition does not say."""
    becomes = {"keep": "it becomes part of the definition", "drop": "the restart makes it as the definition says"}
    return f" Live differences ({'; '.join(live['found'])}): {becomes[live['answer']]}." if live["found"] else ""


def _without_meaning(request: Mapping[str, Any]) -> str:
    """What is written of the flavor for somebody else, named once."""
    ignored = request.get("ignored_flavor_keys")
    return f" {', '.join(ignored)} of {flavor_field(request['flavor'])} {'has' if len(ignored) == 1 else 'have'} no meaning here." if ignored else ""


def _require_possible(host: str, record: dict[str, Any], requirements: dict[str, dict[str, Any]]) -> None:
    """What the host tells of its guest has the form that a destination will ask for as well.

    :raises KvmfleetError: `handed_value`.
    """
    try:
        for needed in requirements.values():
            _handed_plan.plan(record, needed)
    except KvmfleetError as exc:
        raise _impossible(host, record["instance_name"], exc.message, **exc.details) from exc


def _impossible(host: str, name: str, reason: str, **details: Any) -> KvmfleetError:
    return KvmfleetError("handed_value", f"{host} tells of {name!r} what cannot be; nothing was changed. {reason}", **details)


def _ahead(decision: dict[str, Any]) -> str:
    return f"{'with' if decision['wanted'] else 'without'} pre-copy, since {decision['reason']}"


def _waiting(wanted: _Wanted) -> str | None:
    """Why there is nothing to do, if an earlier run did it and it waits for confirm.

    :raises KvmfleetError: `unconfirmed_migration` for another request meanwhile.
    """
    earlier = next(iter(wanted.fleet.open_migrations(wanted.entry["uuid"])), None)
    if earlier is None:
        return None
    what = f"Instance {wanted.name} was moved from {earlier['source_host']} to {wanted.host} by migration {earlier['uuid']}, which waits for confirm or revert"
    if not wanted.resizing and earlier["migration_type"] == "migration" and wanted.request["target_host"] in (None, wanted.host):
        return f"{what}; nothing to do."
    raise KvmfleetError("unconfirmed_migration", f"{what}. Run kvmfleet.compute.confirm or kvmfleet.compute.revert first.", migration_uuid=earlier["uuid"])


def _image_properties(domain: DomainFacts) -> dict[str, Any]:
    return {"hw_architecture": domain["arch"], "img_hv_type": domain["virt_type"], "hw_vm_mode": "hvm"}


def _ratios(fleet: Fleet, candidates: list[str], scheduler: dict[str, Any]) -> dict[str, dict[str, float]]:
    """The allocation ratios that placement applied to each candidate, whose capacities are known, for the same rule under the claim's lock."""
    states = FleetState.read([fleet.hosts[name] for name in candidates], Options.build(scheduler))
    capacities = {name: {"cpu": state.vcpus, "ram": state.memory_mb, "disk": state.disk_mb} for name, state in states.items()}
    return {name: {kind: found.plain_ratio for kind, found in kinds.items() if found is not None} for name, kinds in capacities.items()}


def _diff(host: str, old: dict[str, Any], destination: str, new: dict[str, Any]) -> dict[str, Any]:
    def side(name: str, flavor: dict[str, Any]) -> dict[str, Any]:
        return {"host": name, "flavor": flavor.get("name"), "vcpus": flavor["vcpus"], "ram_mib": flavor["ram"], "disk_gib": flavor["disk"]}

    sides = {"before": side(host, old), "after": side(destination, new)}
    for role, name in (("ephemeral", "ephemeral_gib"), ("swap", "swap_mib")):
        if old[role] or new[role]:
            sides["before"][name], sides["after"][name] = old[role], new[role]
    specs = [extra_specs.changes_guest(flavor["extra_specs"]) for flavor in (old, new)]
    if specs[0] != specs[1]:
        sides["before"]["extra_specs"], sides["after"]["extra_specs"] = specs
    return sides
