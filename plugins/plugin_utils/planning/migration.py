# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The plan of one resize or cold migration: everything that can be decided before a guest is touched, in one object.

Check mode, diff, the printed table and the run read this object; nothing decides twice.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.kvmfleet.compute.plugins.module_utils._rules import exclusive as _exclusive, handed_plan as _handed_plan
from ansible_collections.kvmfleet.compute.plugins.module_utils._rules.errors import KvmfleetError
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.planning import (
    extra_specs,
    facts,
    flavor_disks,
    guest,
    mapping,
    precopy,
    references,
    server_groups,
    storage,
)
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.planning.fleet import Fleet
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.planning.refusal import Refusal
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.fleet_state import FleetState
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.options import Options
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.select import select_destinations
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.validation import ValidationError, boolean, check_name, flavor as validate_flavor

GIB = 1024**3
_FOR_THE_CLAIM = ("network_disks", "mtus")
"""Requirements that no fact answers."""


def resolve_flavor(flavors: Any, name: Any) -> dict[str, Any]:
    """The flavor called `name` out of the fleet variable `kvmfleet_flavors`, normalised.

    :raises Refusal: `unknown_flavor`; ValidationError for what is no flavor.
    """
    check_name("flavor", name)
    if not isinstance(flavors, Mapping) or not flavors:
        raise ValidationError("kvmfleet_flavors", flavors, "a mapping of flavor names to vcpus, ram (MiB) and, optionally, disk (GiB)")
    if name not in flavors:
        raise Refusal("unknown_flavor", f"There is no flavor {name!r} in kvmfleet_flavors; known: {', '.join(sorted(map(str, flavors)))}.", flavor=name)
    flavor = validate_flavor(f"kvmfleet_flavors.{name}", flavors[name])
    return {**flavor, "name": str(name)}


def plan_migration(
    hosts: list[dict[str, Any]],
    domain: dict[str, Any] | None,
    request: dict[str, Any],
    scheduler: dict[str, Any],
) -> dict[str, Any]:
    """Decide what a request comes to in a fleet; the parameters and the result are those of `plan_in`.

    :param hosts: see `Fleet`.
    """
    return plan_in(Fleet(hosts), domain, request, scheduler)


def plan_in(fleet: Fleet, domain: dict[str, Any] | None, request: dict[str, Any], scheduler: dict[str, Any]) -> dict[str, Any]:
    """Decide what a request comes to.

    :param domain: the module domain_info's answer from the host that defines the instance.
    :param request: `instance`, `flavor` (resolved, or None for a cold migration), `availability_zone`, `target_host`, `ignore_hosts`,
        `allow_resize_to_same_host`, `allow_downsize`, `keep_disk`, `precopy` (see `precopy.check`), `grow_filesystem`, `ignored_flavor_keys`,
        `live_differences` (`keep`, `drop` or nothing),
        `server_groups` (`kvmfleet_server_groups`), `scheduler_hints`, and for Nova's filters that ask about them `project_id` and `image_id`.
    :returns: `action` (none, in_place or move), `message`, `placement`, `candidates`; for each of these `storage` (`storage.place`), `mappings`
        (`mapping.translated`), `precopy` (`precopy.decide`), `requirements` and `ratios`; `references` (`references.answers`, none in place) and the same
        for people as `references_text`, `record`, `diff`, `grow_filesystem` (the disk whose filesystem is to be grown afterwards, or None).
    :raises Refusal: the request cannot be carried out.
    """
    ahead = precopy.check(request.get("precopy"))
    host, entry = fleet.locate(request["instance"])
    if domain is None:
        raise Refusal("unknown_instance", f"{request['instance']!r} is not defined on {host} any more.", instance=request["instance"])
    try:
        facts.check_guest(domain)
    except ValidationError as exc:
        raise _impossible(host, entry["name"], str(exc), field=exc.field) from exc
    old = {"ephemeral": 0, "swap": 0, "extra_specs": {}, **domain["flavor"]}
    resizing = request["flavor"] is not None
    keeps_disk = resizing and (not request["flavor"]["disk"] or boolean("keep_disk", request.get("keep_disk"), False))
    new = (request["flavor"] if not keeps_disk else {**request["flavor"], "disk": old["disk"]}) if resizing else old
    root_size = new["disk"] * GIB if resizing and not keeps_disk else 0
    tuning = extra_specs.tuning(flavor_field(new), new) if resizing else None
    dedicated = extra_specs.dedicated_cells(flavor_field(new), new)
    grows = boolean("grow_filesystem", request.get("grow_filesystem"), False) and resizing and guest.root_disk(domain)
    grow_filesystem = grows["target"] if grows else None
    if resizing and _same(old, new):
        nothing = _nothing(host, old, new, f"Instance {entry['name']} on {host} already has {describe(new)}; nothing to do.")
        return {**nothing, "grow_filesystem": grow_filesystem}
    if not resizing and request["target_host"] == host:
        return _nothing(host, old, new, f"Instance {entry['name']} is already on {host}; nothing to do.")
    waiting = _waiting(fleet, entry, host, request)
    if waiting:
        return _nothing(host, old, new, waiting)
    guest.require_movable(entry, domain, host)
    answer = request.get("live_differences") or None
    live = {"answer": answer, "found": guest.require_as_defined(entry["name"], domain, answer)}
    guest.require_growth(entry["name"], domain, old, new, request["allow_downsize"], keeps_disk)
    guest.require_limits(entry["name"], domain, tuning)
    disks = {moving: flavor_disks.changes(entry["name"], domain, new, moving=moving) if resizing else flavor_disks.NONE for moving in (True, False)}
    names = mapping.named(domain, fleet.hosts[host])
    hints = server_groups.hints_of(fleet, request.get("scheduler_hints"))
    group = server_groups.group_of(fleet, request.get("server_groups"), entry, hints)
    asked = {
        "instance": {"name": entry["name"], "uuid": entry["uuid"], "host": host, "availability_zone": None, "flavor": old},
        "flavor": new,
        "project_id": request.get("project_id"),
        "image": {"id": request.get("image_id"), "properties": _image_properties(domain)},
        "server_group": {key: value for key, value in (group or {}).items() if key != "name"},
        "scheduler_hints": hints,
        "requirements": {
            **_needs(domain, new if resizing else None, root_size, disks[True]),
            **storage.needs(domain, fleet.hosts[host], disks[True]),
            "named": names,
        },
        "availability_zone": request["availability_zone"],
        "target_host": request["target_host"],
        "ignore_hosts": list(request["ignore_hosts"]),
        "allow_resize_to_same_host": bool(resizing and request["allow_resize_to_same_host"]),
    }
    placement = {**select_destinations(list(fleet.hosts.values()), asked, scheduler), "request": asked}
    if placement["selected"] is None:
        down = "".join(f"\n{name} was not asked: {reason}" for name, reason in sorted(fleet.down.items()))
        message = f"No host can take {entry['name']} with {describe(new)}; nothing was changed.\n{placement['message']}{_ways_out(placement)}{down}"
        raise Refusal("no_valid_host", message, placement=placement)
    candidates = [placement["selected"]] + ([] if request["target_host"] else placement["alternates"])
    in_place = candidates[0] == host
    changed = disks[not in_place]
    flavor_disks.require_no_snapshots(entry["name"], domain, changed)
    if in_place:
        guest.require_no_encryption(entry["name"], domain)
    others = [name for name in candidates if name != host]
    chosen = [host] if in_place else others
    mappings = {name: mapping.translated(names, fleet.hosts[name]) for name in chosen}
    outside = [] if in_place else references.answers(domain, mappings[others[0]])
    travelling = {**domain, "disks": [disk for disk in domain["disks"] if disk["target"] not in changed.left_behind]}
    copied = {} if in_place else {name: precopy.decide(ahead, travelling, (fleet.hosts[name].get("copy_rates") or {}).get(host)) for name in others}
    record = {**_record(entry, domain, host, old, new, root_size, changed), "tuning": tuning, "availability_zone": request["availability_zone"]}
    record["live_differences"] = live
    requirements = {name: {**_requirements(domain, mappings[name]), "dedicated": dedicated, "server_group": group} for name in chosen}
    _require_possible(host, record, requirements)
    zone = fleet.hosts[candidates[0]].get("availability_zone") or Options.build(scheduler).default_availability_zone
    what = f"{'resize' if resizing else 'migrate'} {entry['name']} from {describe(old)} on {host} to {describe(new)} on {candidates[0]}"
    return {
        "action": "in_place" if in_place else "move",
        "message": f"Plan: {what}" + (", in place." if in_place else f", zone {zone}, {_ahead(copied[others[0]])}.") + _without_meaning(request) + _told(live),
        "source": host,
        "candidates": chosen,
        "storage": {name: storage.place(domain, fleet.hosts[host], fleet.hosts[name], mappings[name], changed) for name in chosen},
        "mappings": mappings,
        "precopy": copied,
        "live_differences": live,
        "references": outside,
        "references_text": references.lines(outside),
        "placement": placement,
        "ratios": _ratios(fleet, candidates, scheduler),
        "record": record,
        "requirements": requirements,
        "diff": _diff(host, old, candidates[0], new),
        "grow_filesystem": grow_filesystem,
    }


def _ways_out(placement: dict[str, Any]) -> str:
    """What can be done where a host has what the guest wants to itself."""
    codes = {reason["code"] for reasons in placement["rejected"].values() for reason in reasons}
    ways = _exclusive.ways_out(kind for kind, known in _exclusive.KINDS.items() if known.code in codes)
    return "".join(["\nWhere a host has what the guest wants to itself:", *(f"\n  {number}. {way}" for number, way in enumerate(ways, 1))]) if ways else ""


def _told(live: dict[str, Any]) -> str:
    """What becomes of all that the guest has and its definition does not say."""
    becomes = {"keep": "it becomes part of the definition", "drop": "the restart makes it as the definition says"}
    return f" Live differences ({'; '.join(live['found'])}): {becomes[live['answer']]}." if live["found"] else ""


def _without_meaning(request: dict[str, Any]) -> str:
    """What is written of the flavor for somebody else, named once."""
    ignored = request.get("ignored_flavor_keys")
    return f" {', '.join(ignored)} of {flavor_field(request['flavor'])} {'has' if len(ignored) == 1 else 'have'} no meaning here." if ignored else ""


def _require_possible(host: str, record: dict[str, Any], requirements: dict[str, dict[str, Any]]) -> None:
    """What the host tells of its guest has the form that a destination will ask for as well.

    :raises Refusal: `handed_value`.
    """
    try:
        for needed in requirements.values():
            _handed_plan.plan(record, needed)
    except KvmfleetError as exc:
        raise _impossible(host, record["instance_name"], exc.message, **exc.details) from exc


def _impossible(host: str, name: str, reason: str, **details: Any) -> Refusal:
    return Refusal("handed_value", f"{host} tells of {name!r} what cannot be; nothing was changed. {reason}", **details)


def flavor_field(flavor: dict[str, Any]) -> str:
    """What messages call a flavor."""
    return f"kvmfleet_flavors.{flavor.get('name')}"


def describe(flavor: dict[str, Any]) -> str:
    """`flavor large (2 vCPUs, 512 MiB, 3 GiB, 1 GiB ephemeral, 64 MiB swap)`; of the last two what there is."""
    more = "".join(f", {flavor[role]} {unit} {role}" for role, unit in (("ephemeral", "GiB"), ("swap", "MiB")) if flavor[role])
    name = f"flavor {flavor['name']} " if flavor.get("name") else ""
    return f"{name}({flavor['vcpus']} vCPU{'s' if flavor['vcpus'] != 1 else ''}, {flavor['ram']} MiB, {flavor['disk']} GiB{more})"


def _ahead(decision: dict[str, Any]) -> str:
    return f"{'with' if decision['wanted'] else 'without'} pre-copy, since {decision['reason']}"


def _waiting(fleet: Fleet, entry: dict[str, Any], host: str, request: dict[str, Any]) -> str | None:
    """Why there is nothing to do, if an earlier run did it and it waits for confirm.

    :raises Refusal: `unconfirmed_migration` for another request meanwhile.
    """
    record = next(iter(fleet.open_migrations(entry["uuid"])), None)
    if record is None:
        return None
    what = f"Instance {entry['name']} was moved from {record['source_host']} to {host} by migration {record['uuid']}, which waits for confirm or revert"
    if request["flavor"] is None and record["migration_type"] == "migration" and request["target_host"] in (None, host):
        return f"{what}; nothing to do."
    raise Refusal("unconfirmed_migration", f"{what}. Run kvmfleet.compute.confirm or kvmfleet.compute.revert first.", migration_uuid=record["uuid"])


def _same(old: dict[str, Any], new: dict[str, Any]) -> bool:
    same_specs = extra_specs.changes_guest(old["extra_specs"]) == extra_specs.changes_guest(new["extra_specs"])
    return same_specs and all(old[key] == new[key] for key in ("vcpus", "ram", "disk", "ephemeral", "swap"))


def _nothing(host: str, old: dict[str, Any], new: dict[str, Any], message: str) -> dict[str, Any]:
    return {
        "action": "none",
        "message": message,
        "source": host,
        "candidates": [],
        "storage": {},
        "mappings": {},
        "precopy": {},
        "live_differences": {"answer": None, "found": []},
        "references": [],
        "references_text": [],
        "placement": None,
        "ratios": {},
        "record": None,
        "requirements": {},
        "diff": _diff(host, old, host, new),
        "grow_filesystem": None,
    }


def _image_properties(domain: dict[str, Any]) -> dict[str, Any]:
    return {"hw_architecture": domain["arch"], "img_hv_type": domain["virt_type"], "hw_vm_mode": "hvm"}


def _record(
    entry: dict[str, Any], domain: dict[str, Any], host: str, old: dict[str, Any], new: dict[str, Any], root_size: int, disks: flavor_disks.Changes
) -> dict[str, Any]:
    """What both journals hold of the operation."""
    return {
        "instance_uuid": entry["uuid"],
        "instance_name": entry["name"],
        "migration_type": "migration" if new is old else "resize",
        "source_host": host,
        "old_flavor": old,
        "new_flavor": new,
        "xml_digest": domain["xml_digest"],
        "agent_expected": bool(domain["agent"]["connected"]),
        "disks": [_disk(disk, root_size, disks) for disk in storage.files(domain)],
        "new_disks": list(disks.new),
        "dropped_disks": disks.dropped,
        "left_out": [disk["target"] for disk in domain["disks"] if disk.get("left_out")],
        "flavor_disks": disks.known,
        "nvram": domain["firmware"].get("nvram"),
        "tpm": domain.get("tpm") is not None,
        "console_logs": domain.get("console_logs") or [],
        "owners": domain.get("owners") or {},
        "directories": domain.get("directories") or {},
        "secrets": [{key: value for key, value in secret.items() if key != "missing"} for secret in domain.get("secrets") or ()],
    }


def _disk(disk: dict[str, Any], root_size: int, changes: flavor_disks.Changes) -> dict[str, Any]:
    """:param root_size: bytes that the root disk is to have at least."""
    chain, left_behind = disk["chain"], disk["target"] in changes.left_behind
    writable = disk["device"] == "disk" and not disk["readonly"]
    bases = _bases(chain) if writable and not left_behind else []
    grow_to = root_size if disk["root"] and root_size > disk["virtual_size"] else changes.grown.get(disk["target"])
    return {
        "target": disk["target"],
        "kind": "disk" if writable else "media",
        "pool": disk.get("pool"),
        "volume": disk.get("volume"),
        "path": disk["path"],
        "format": disk["format"],
        "chain": [[layer["path"], layer["format"], layer["virtual_size"]] for layer in chain],
        "allocated_bytes": disk["allocated_bytes"],
        "virtual_size": disk["virtual_size"],
        "encrypted": bool(disk.get("encrypted")),
        "base": bases[-1] if bases else None,
        "bases": bases,
        "grow_to": grow_to,
        **({"left_behind": True} if left_behind else {}),
    }


def _bases(chain: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Every layer that the guest only reads is a base image: the lowest first, since each `backing` is what the next one stands on."""
    found: list[dict[str, Any]] = []
    for layer in reversed(chain[1:]):
        below = {key: value for key, value in found[-1].items() if key != "backing"} if found else None
        found.append({**layer["identity"], "path": layer["path"], "backing": below})
    return found


def _ratios(fleet: Fleet, candidates: list[str], scheduler: dict[str, Any]) -> dict[str, dict[str, float]]:
    """The allocation ratios that placement applied to each candidate, for the same rule under the claim's lock."""
    states = FleetState.read([fleet.hosts[name] for name in candidates], Options.build(scheduler))
    return {name: {"cpu": state.vcpus.plain_ratio, "ram": state.memory_mb.plain_ratio, "disk": state.disk_mb.plain_ratio} for name, state in states.items()}


def _requirements(domain: dict[str, Any], translation: mapping.Names) -> dict[str, Any]:
    """What a destination must have, as it calls it itself, checked there under the lock of the claim."""
    kinds = {"network": "networks", "bridge": "bridges"}
    interfaces = [{**nic, "source": mapping.of(translation, kinds.get(nic["type"], ""), nic["source"])} for nic in domain["interfaces"]]
    return {
        "arch": domain["arch"],
        "virt_type": domain["virt_type"],
        "machine": domain["machine"],
        "emulator": mapping.of(translation, "emulators", domain["emulator"]),
        "networks": sorted({nic["source"] for nic in interfaces if nic["type"] == "network" and nic["source"]}),
        "bridges": sorted({nic["source"] for nic in interfaces if nic["type"] == "bridge" and nic["source"]}),
        "mtus": [{key: nic[key] for key in ("type", "source", "mtu")} for nic in interfaces if nic["source"] and nic.get("mtu")],
        "macs": sorted({nic["mac"] for nic in interfaces if nic["mac"]}),
        "exclusive": domain.get("exclusive") or {},
        "loader": mapping.of(translation, "firmware", domain["firmware"].get("loader")),
        "nvram_template": mapping.of(translation, "firmware", domain["firmware"].get("nvram_template")),
        "host_cpus": domain.get("host_cpus"),
        "pinned_cpus": domain.get("pinned_cpus"),
        "huge_pages": domain.get("huge_pages"),
        "network_disks": [disk["network"] for disk in domain["disks"] if disk.get("network")],
    }


def _needs(domain: dict[str, Any], flavor: dict[str, Any] | None, root_size: int, changes: flavor_disks.Changes) -> dict[str, Any]:
    """The requirements as far as the facts of a host can answer them, for the scheduler."""
    disks = [disk for disk in storage.files(domain) if disk["target"] not in changes.left_behind]
    firmware, cpu = domain["firmware"], domain.get("cpu")
    bases = {base["sha256"]: base["size_bytes"] for disk in disks for base in _disk(disk, 0, changes)["bases"]}
    root = guest.root_disk(domain)
    growth = max(0, root_size - root["virtual_size"]) if root_size and root["path"] else 0
    return {
        **{key: value for key, value in _requirements(domain, {}).items() if key not in _FOR_THE_CLAIM},
        "firmware": "efi" if firmware.get("kind") == "uefi" and not firmware.get("loader") else None,
        "secure_boot": domain.get("secure_boot"),
        "tpm": domain.get("tpm"),
        "cpu": cpu if cpu and cpu.get("mode") else None,
        "cpu_shares": domain.get("cpu_shares"),
        "nwfilters": sorted({reference["name"] for reference in domain.get("references") or () if reference["kind"] == "nwfilter"}),
        "overlay_bytes": sum(disk["allocated_bytes"] for disk in disks),
        "growth_bytes": growth + (flavor_disks.bytes_to_come(domain, flavor) if flavor else 0),
        "bases": [{"sha256": sha256, "size_bytes": size} for sha256, size in bases.items()],
    }


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
