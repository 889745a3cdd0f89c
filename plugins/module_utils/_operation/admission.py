# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Admission: may this host take the instance, judged by its live state under its own lock.

Placement chose from facts that may be minutes old and that other runs chose from too; here is where two of them meet.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from typing import Any

from .._domain import definition as _definition
from .._guest.belongings import registry as _belongings
from .._guest.belongings.belonging import Claim
from .._host import bindings as _bindings, capabilities as _capabilities, networks as _networks, taken as _taken
from .._host.state import Reserved, host_state, usage
from .._journal import claims as _claims, maintenance as _maintenance
from .._journal.records import Journal
from .._journal.state_dir import StateDir
from .._libvirt import connection as _connection, definitions as _definitions, domains as _domains
from .._rules import (
    dedicated_cpus as _dedicated_cpus,
    exclusive as _exclusive,
    host_cpus as _host_cpus,
    huge_pages as _huge_pages,
    machine_types as _machine_types,
)
from .._rules.capacity import Room, disk_need_mb, room
from .._rules.errors import KvmfleetError
from .._storage import (
    directories as _directories,
    leftovers as _leftovers,
    new_files as _new_files,
    places as _places,
    qemu_access as _qemu_access,
)
from .._storage.incoming import all_files, shortages
from .._storage.kinds import registry as _kinds
from .._system import paths as _paths
from . import slots as _slots


def admit(
    conn: Any,
    journal: Journal,
    record: dict[str, Any],
    *,
    requirements: dict[str, Any],
    images_path: str,
    reserved: Reserved,
    ratios: dict[str, float],
    proofs: dict[str, str],
    key: str | None,
    dedicated: Collection[int] = (),
    most: int = 0,
) -> dict[str, Any]:
    """Check everything that this host could refuse later, and claim the capacity.

    For `role` destination the record is begun here; for in_place it exists already. Where the flavor asks for CPUs of its own, they are chosen here.

    :param requirements: the key `requirements` of the plan; :param ratios: `cpu`, `ram`, `disk`; :param dedicated: CPUs of this host that are set
        aside for guests of their own; :param most: how many moves into this host there are at once, 0 for no limit.
    :param proofs: `_guest.belongings.registry.proofs` of the source under the one-time key `key`.
    :returns: the claim.
    :raises KvmfleetError: `claim_refused` with every reason, numbers included; `busy`.
    """
    state = journal.state
    if record["role"] == "destination":
        # Nothing is looked at or tried in a place that this host does not give to guests.
        _refuse_for(record, _handed_reasons(record))
    # Everybody else who claims here waits for the lock: what others may let us wait for is asked before it.
    unreachable = _kinds.unreachable(requirements) if record["role"] == "destination" else []
    looks, unopenable = _qemu_access.looks(conn, record)
    with state.lock(_claims.LOCK):
        _leftovers.drop(state, *_leftovers.expired(state))
        require_open(journal, record)
        _slots.require_free(journal, record, most)
        reasons = list(_capacity_reasons(conn, state, record, images_path, reserved, ratios))
        if record["role"] == "destination":
            here = host_state(conn, state, reserved=reserved, images_path=images_path)
            reasons += _arrival_reasons(conn, journal, record, requirements, here)
            reasons += [_reason(code, reason) for code, reason in unreachable]
        reasons += _belonging_reasons(Claim(conn, journal, proofs, key), record)
        pins, lacking = _own_cpus(conn, state, record, requirements.get("dedicated") or (), dedicated)
        reasons += lacking
        reasons += _new_file_reasons(record)
        reasons += _access_reasons(unopenable)
        directories = _directories.to_make(conn, state, record) if record["role"] == "destination" else {}
        reasons += _name_reasons(record, _directories.outermost(path for path, one in directories.items() if one["inode"] is None))
        _refuse_for(record, reasons)
        if record["role"] == "destination":
            record = journal.update(journal.begin(dict(record, made_directories=directories)), step="admitted", pins=pins, looks=looks)
            _leftovers.adopt(state, record)
        else:
            more: dict[str, Any] = {"pins": pins} if pins else {}
            record = journal.update(journal.get(record["uuid"]), looks=looks, **more)
        cpus = {*(pins or ()), *_bound_now(conn, record)}
        size, things = sum(disk["allocated_bytes"] for disk in record["disks"]), _exclusive.wanted(requirements)
        return _claims.write(state, record, record["role"], record["new_flavor"], size, cpus, things)


def _arrival_reasons(conn: Any, journal: Journal, record: dict[str, Any], requirements: dict[str, Any], here: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """What a guest that comes would find otherwise than it needs it.

    :param here: `_host.state.host_state` of this host.
    """
    yield from _conflicts(conn, journal.state, record, requirements)
    yield from _lacks(here, requirements)
    for nic, have in _networks.shorter(conn, requirements.get("mtus", ()), _networks.bridges()):
        yield _reason("mtu", f"the {nic['type']} {nic['source']} carries frames of {have} bytes here, the guest sends up to {nic['mtu']}")
    yield from _group_reasons(here["instances"], record, requirements.get("server_group"))
    yield from _disk_reasons(journal, record)


def _belonging_reasons(claim: Claim, record: dict[str, Any]) -> list[dict[str, Any]]:
    """Why something that belongs to the guest cannot come to this host, or in place what going back needs of it not be kept."""
    found = [reason for kind in _belongings.ALL for reason in kind.reasons(claim, record)]
    return [dict(_reason(reason.code, reason.sentence), **reason.numbers) for reason in found]


def _group_reasons(instances: Collection[str], record: dict[str, Any], group: dict[str, Any] | None) -> list[dict[str, Any]]:
    """A hard server group holds here as well: another member may have been claimed since placement chose.

    :param instances: UUIDs of all that is defined or claimed here.
    """
    others = set(group["members"]) - {record["instance_uuid"]} if group else set()
    here = others.intersection(instances)
    if group and group["policy"] == "anti-affinity" and len(here) >= group["max_server_per_host"]:
        limit = group["max_server_per_host"]
        return [_reason("anti_affinity", f"server group {group['name']} (anti-affinity): {len(here)} other members are here, fewer than {limit} are allowed")]
    if group and group["policy"] == "affinity" and others and not here:
        return [_reason("affinity", f"server group {group['name']} (affinity): no other member is here")]
    return []


def _refuse_for(record: dict[str, Any], reasons: list[dict[str, Any]]) -> None:
    if reasons:
        told = "; ".join(reason["reason"].rstrip(".") for reason in reasons)
        ways = _exclusive.ways_out(dict.fromkeys(reason["kind"] for reason in reasons if "kind" in reason))
        out = " What can be done: " + "; ".join(f"{number}. {way}" for number, way in enumerate(ways, 1)) + "." if ways else ""
        raise KvmfleetError("claim_refused", f"{record['instance_name']} cannot be taken: {told}.{out}", reasons=reasons)


def _own_cpus(
    conn: Any, state: StateDir, record: dict[str, Any], guest: Sequence[Sequence[int]], dedicated: Collection[int]
) -> tuple[list[int] | None, list[dict[str, Any]]]:
    """The CPU for each vCPU, None where the flavor asks for none; and why there are none for it."""
    if not guest:
        return None, []
    uuid = record["instance_uuid"]
    taken = _bindings.of_guests(conn, without=uuid).cpus | _claims.cpus(state.read_all("claims"), without=uuid)
    cells = _capabilities.numa_cells(_definition.parse_document(_connection.host_capabilities(conn)), {}, ())
    nodes = _dedicated_cpus.free(cells, dedicated, taken)
    pins = _dedicated_cpus.choose(guest, nodes)
    return pins, [] if pins else [_reason("dedicated_cpus", _dedicated_cpus.described(guest, nodes, dedicated))]


def _bound_now(conn: Any, record: dict[str, Any]) -> set[int]:
    """CPUs that the guest has to itself here before the operation: a revert brings them back."""
    domain = _domains.find_domain(conn, record["instance_uuid"]) if record["role"] == "in_place" else None
    return set() if domain is None else set(_bindings.own_cpus(_definition.parse(_definitions.inactive_xml(domain, secure=False))))


def _capacity_reasons(conn: Any, state: Any, record: dict[str, Any], images_path: str, reserved: Reserved, ratios: dict[str, float]) -> list[dict[str, Any]]:
    """The rules of RamFilter, CoreFilter and DiskFilter on the numbers of this moment, the instance itself left out."""
    now = usage(conn, state, reserved=reserved, images_path=images_path, without=record["instance_uuid"])
    flavor = record["new_flavor"]
    free_gb = min(now.local_gb - now.local_gb_used, now.disk_available_least)
    rooms = {
        "ram": ("MiB of memory", room(now.memory_mb, now.memory_mb_used, ratios["ram"], flavor["ram"])),
        "vcpus": ("vCPUs", room(now.vcpus, now.vcpus_used, ratios["cpu"], flavor["vcpus"])),
        "disk": (
            "MiB of disk",
            room(now.local_gb * 1024, (now.local_gb - free_gb) * 1024, ratios["disk"], disk_need_mb(flavor["disk"], flavor["ephemeral"], flavor["swap"])),
        ),
    }
    return [
        _reason(code, f"{answer.need:g} {what} needed, {answer.have:g} left of {answer.limit:g}", answer)
        for code, (what, answer) in rooms.items()
        if not answer.fits
    ]


def _conflicts(conn: Any, state: StateDir, record: dict[str, Any], requirements: dict[str, Any]) -> list[dict[str, Any]]:
    reasons = []
    for key, what in ((record["instance_uuid"], "UUID"), (record["instance_name"], "name")):
        domain = _domains.find_domain(conn, key)
        if domain is not None:
            reasons.append(_reason("already_defined", f"a domain with the {what} {key} is defined here already ({domain.name()}, {domain.UUIDString()})"))
            return reasons
    held = _taken.held(_bindings.of_guests(conn).held, state.read_all("claims"), without=record["instance_uuid"])
    for conflict in _exclusive.conflicts(_exclusive.wanted(requirements), held):
        reasons.append({**_reason(conflict.code, f"on this host, {conflict.described}"), "kind": conflict.thing.kind})
    paths = [disk["path"] for disk in record["disks"] if _kinds.of(disk).travels]
    paths += [path for kind in _belongings.ALL for path in kind.must_be_free(record)]
    reasons += [_reason("path_taken", f"{path} exists here already") for path in paths if os.path.lexists(path)]
    reasons += [_reason("path_taken", f"{count} disks would come to lie at {path}") for path, count in Counter(paths).items() if count > 1]
    return reasons


def _lacks(facts: dict[str, Any], requirements: dict[str, Any]) -> list[dict[str, Any]]:
    machine, arch, virt_type = requirements["machine"], requirements["arch"], requirements["virt_type"]
    reasons = []
    if machine and machine not in facts["machine_types"]:
        reasons.append(_reason("machine_type", f"this host {_machine_types.lacking(machine, facts['machine_types'])[0]}"))
    if [arch, virt_type, "hvm"] not in facts["supported_instances"]:
        reasons.append(_reason("virt_type", f"{virt_type} guests of architecture {arch} are not supported here"))
    reasons += [
        _reason("network_missing", f"the libvirt network {name} is not active here") for name in requirements["networks"] if name not in facts["networks"]
    ]
    reasons += [_reason("bridge_missing", f"the bridge {name} does not exist here") for name in requirements["bridges"] if name not in facts["bridges"]]
    bound = requirements.get("host_cpus")
    if bound and (lacks := _host_cpus.missing(facts["numa_cells"], bound)):
        reasons.append(_reason("host_cpus", f"the definition binds the guest to {lacks}"))
    pages = requirements.get("huge_pages")
    if pages and (free := _huge_pages.free_mb(facts["numa_cells"], pages)) < pages["memory_mb"]:
        reasons.append(_reason("huge_pages", f"it {_huge_pages.described(pages)}, {free:g} MB are free here"))
    for field in ("emulator", "loader", "nvram_template"):
        if requirements[field] and not os.path.exists(requirements[field]):
            reasons.append(_reason("file_missing", f"the {field.replace('_', ' ')} {requirements[field]} does not exist here"))
    reasons += [_reason("tool_missing", f"{tool} is not installed here") for tool in ("qemu_img",) if not facts["tools"][tool]]
    return reasons


def _disk_reasons(journal: Journal, record: dict[str, Any]) -> list[dict[str, Any]]:
    reasons = [_reason(code, reason) for code, reason in _directories.reasons(record)]
    short = shortages(journal, record)
    if short and _leftovers.make_room(journal.state, but=record["instance_uuid"]):
        short = shortages(journal, record)
    return reasons + [dict(_reason("no_space", str(shortage)), **shortage.numbers()) for shortage in short]


def _new_file_reasons(record: dict[str, Any]) -> list[dict[str, Any]]:
    """Whether this host can make the disks that the flavor adds."""
    new = [disk["path"] for disk in record.get("new_disks", ())]
    taken = [path for path in new if os.path.lexists(path) or path in {disk["path"] for disk in record["disks"]}]
    reasons = [_reason("path_taken", f"{path} exists here already, and a disk that the flavor has would be made there") for path in taken]
    return reasons + [_reason("tool_missing", f"{tool} is not installed here") for tool in _new_files.missing_tools(record)]


def require_open(journal: Journal, record: dict[str, Any]) -> None:
    """This host is not closed for the guest by its own record of its maintenance.

    :raises KvmfleetError: `claim_refused`.
    """
    closed = _maintenance.refusal(journal.state, record.get("part_of"))
    _refuse_for(record, [_reason("maintenance", closed)] if closed else [])


def require_places(record: dict[str, Any]) -> None:
    """The files of the record may lie where they are to lie, and the directories that this host has for guests are there.

    :raises KvmfleetError: `claim_refused`.
    """
    _refuse_for(record, _handed_reasons(record))
    _refuse_for(record, [_reason(code, reason) for code, reason in _directories.reasons(record)])


def _handed_reasons(record: dict[str, Any]) -> list[dict[str, Any]]:
    return [_reason(code, reason) for code, reason in _places.reasons_here(record)]


def make_directories(conn: Any, journal: Journal, record: dict[str, Any]) -> dict[str, Any]:
    """Make the directories of an operation that was admitted, and try what could not be tried without them.

    :returns: the record.
    :raises KvmfleetError: `claim_refused`, and those of `_storage.directories.make`; the claim has to be given back then.
    """
    record = _directories.make(journal, record)
    if not record.get("made_directories"):
        return record
    looks, unopenable = _qemu_access.looks(conn, record)
    _refuse_for(record, _access_reasons(unopenable))
    return journal.update(record, looks=looks)


def _access_reasons(unopenable: Sequence[tuple[str, _qemu_access.Obstacle]]) -> list[dict[str, Any]]:
    return [dict(_reason("qemu_cannot_open", obstacle.reason), have=obstacle.have, need=obstacle.need, path=path) for path, obstacle in unopenable]


def _name_reasons(record: dict[str, Any], directories: Sequence[str]) -> list[dict[str, Any]]:
    """Whether the filesystems here take the names that the operation gives to files and directories beside those of the guest."""
    paths = [disk["path"] for disk in all_files(record) if _kinds.of(disk).travels] + _belongings.paths(record)
    found = filter(None, map(_paths.too_long, dict.fromkeys([*paths, *directories])))
    return [dict(_reason("name_too_long", str(name)), need=name.need, have=name.have, path=name.path) for name in found]


def _reason(code: str, reason: str, answer: Room | None = None) -> dict[str, Any]:
    return {"code": code, "reason": reason, "need": answer.need if answer else None, "have": answer.have if answer else None}
