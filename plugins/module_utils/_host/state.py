# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a host is and how full it is: the host state that placement is decided from, and that a claim is checked against."""

from __future__ import annotations

import contextlib
import os
import platform
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from .._domain import definition as _definition
from .._journal import claims as _claims, maintenance as _maintenance, progress as _progress, records as _records
from .._journal.state_dir import StateDir
from .._libvirt import binding as _binding, connection as _connection, definitions as _definitions, domains as _domains, storage as _storage
from .._rules.errors import KvmfleetError
from .._storage import leftovers as _leftovers, pools as _pools, qemu_img as _qemu_img, qemu_user as _qemu_user, run_evidence as _run_evidence
from .._storage.kinds import registry as _kinds
from .._system import processes as _processes
from . import bindings as _bindings, capabilities as _capabilities, networks as _networks, taken as _taken

BUSY_STATUSES = ("pre-migrating", "migrating", "post-migrating", "reverting")
_TOOLS = {"nbdkit": "nbdkit", "qemu_storage_daemon": "qemu-storage-daemon", "nbdcopy": "nbdcopy", "qemu_img": "qemu-img"}
_MIB = 1024**2
_GIB = 1024**3


@dataclass(frozen=True)
class Reserved:
    """What the host keeps for itself; part of *used*."""

    memory_mb: int = 512
    vcpus: int = 0
    disk_mb: int = 0


@dataclass(frozen=True)
class DomainState:
    """One defined domain and what it is charged: vCPUs online, memory in MiB, GiB promised on the filesystem of the images."""

    name: str
    uuid: str
    state: str
    vcpus: int
    memory_mb: int
    disk_gb: float
    persistent: bool
    autostart: bool


@dataclass(frozen=True)
class Usage:
    """Totals and usage of one host. MiB for memory, GiB for disk; `disk_available_least` is what is left if every disk fills up."""

    vcpus: int
    vcpus_used: int
    memory_mb: int
    memory_mb_used: int
    local_gb: float
    local_gb_used: float
    disk_available_least: float
    disk_total_mb: int
    disk_free_mb: int
    num_instances: int
    instances: list[str]
    domains: list[DomainState]


@dataclass(frozen=True)
class _Charge:
    """What one instance costs; `growth_mb` is what its disks may still take from the filesystem."""

    vcpus: int = 0
    memory_mb: int = 0
    disk_mb: float = 0.0
    growth_mb: float = 0.0


def usage(connection: Any, state: StateDir, *, reserved: Reserved, images_path: str, without: str | None = None) -> Usage:
    """Sum reserved capacity, all defined domains (stopped ones too) and claims; an instance with both is charged the larger of each.

    :param without: UUID of an instance that is left out, to ask what there is for it.
    :raises KvmfleetError: `images_path_missing`.
    """
    try:
        filesystem, device = os.statvfs(images_path), os.stat(images_path).st_dev
    except FileNotFoundError as exc:
        raise KvmfleetError("images_path_missing", f"The directory for images {images_path} does not exist: create it.", path=images_path) from exc
    domains, charges = _guests(connection, device)
    claims = {claim["instance_uuid"]: claim for claim in state.read_all("claims")}
    instances = sorted((set(charges) | set(claims)) - {without})
    total = [_charge(charges.get(uuid), claims.get(uuid)) for uuid in instances]
    free = filesystem.f_bavail * filesystem.f_frsize + _leftovers.bytes_on(state, device)
    size = filesystem.f_blocks * filesystem.f_frsize
    node = connection.getInfo()
    return Usage(
        vcpus=node[2],
        vcpus_used=reserved.vcpus + sum(charge.vcpus for charge in total),
        memory_mb=_connection.memory_mb(connection),
        memory_mb_used=reserved.memory_mb + sum(charge.memory_mb for charge in total),
        local_gb=_gb(size / _MIB),
        local_gb_used=_gb(reserved.disk_mb + sum(charge.disk_mb for charge in total)),
        disk_available_least=_gb(free / _MIB - sum(charge.growth_mb for charge in total)),
        disk_total_mb=size // _MIB,
        disk_free_mb=free // _MIB,
        num_instances=len(instances),
        instances=instances,
        domains=domains,
    )


def host_state(connection: Any, state: StateDir, *, reserved: Reserved, images_path: str) -> dict[str, Any]:
    """Everything that a host knows about itself, as plain JSON; what the inventory says about it is not part of it."""
    migrations, claims = state.read_all("migrations"), state.read_all("claims")
    capabilities = _definition.parse_document(_connection.host_capabilities(connection))
    bound = _bindings.of_guests(connection)
    unfinished = [_open_record(connection, state, record) for record in migrations if record["status"] not in _records.CLOSED]
    return {
        "up": True,
        "hostname": platform.node(),
        "libvirt_version": connection.getLibVersion(),
        "hypervisor_version": connection.getVersion(),
        "hypervisor_type": connection.getType(),
        "python_version": platform.python_version(),
        **_capabilities.platform_facts(capabilities),
        **_capabilities.offers(connection, state, capabilities, bound, _claims.cpus(claims)),
        **asdict(usage(connection, state, reserved=reserved, images_path=images_path)),
        "macs": sorted(bound.macs),
        "origins": {uuid: dict(origin) for uuid, origin in sorted(bound.origins.items())},
        "exclusive": _taken.told(_taken.held(bound.held, claims)),
        "reserved": asdict(reserved),
        "images_path": images_path,
        "qemu": _qemu_user.facts(connection),
        "networks": sorted(_binding.supported(connection.listNetworks, [])),
        "bridges": sorted(_networks.bridges()),
        "nwfilters": sorted(_binding.supported(connection.listNWFilters, [])),
        "pools": [_pools.facts(pool) for pool in _storage.all_pools(connection)],
        "migrations": unfinished,
        "forced_migrations": [_records.summary(record) for record in migrations if record["status"] in _records.CLOSED and _records.may_be_needed(record)],
        "claims": claims,
        "maintenance": _maintenance.told(_maintenance.in_force(state)),
        "num_io_ops": sum(migration["status"] in BUSY_STATUSES for migration in unfinished),
        "failed_builds": _records.failures_in_a_row(migrations),
        "copy_rates": _records.copy_rates(migrations),
        "metrics": {},
        "tools": {name: _version(command) for name, command in _TOOLS.items()},
    }


def _open_record(connection: Any, state: StateDir, record: dict[str, Any]) -> dict[str, Any]:
    """The summary of a record, with the progress of its copy and, where a copy is complete here, whether the guest has run on it."""
    summary = _progress.added(state, _records.summary(record))
    if _run_evidence.is_complete(record):
        summary["has_run"] = _run_evidence.has_run(_domains.find_domain(connection, record["instance_uuid"]), record)
    return summary


def _charge(domain: _Charge | None, claim: dict[str, Any] | None) -> _Charge:
    if claim is None:
        return domain or _Charge()
    claimed_mb, here_mb = claim["disk_mb"], claim["bytes"] / _MIB
    if domain is not None:
        growth = domain.growth_mb + max(0, claimed_mb - domain.disk_mb)
    elif claim["role"] == "source":
        growth = max(0, claimed_mb - here_mb)
    else:
        growth = max(claimed_mb, here_mb)
    domain = domain or _Charge()
    return _Charge(max(domain.vcpus, claim["vcpus"]), max(domain.memory_mb, claim["ram"]), max(domain.disk_mb, claimed_mb), growth)


def _guests(connection: Any, device: int) -> tuple[list[DomainState], dict[str, _Charge]]:
    """All domains, and the charge of each, from one statistics call and two listings; only what a driver leaves out is read one by one."""
    persistent = _domains.domain_uuids(connection, persistent=True)
    autostart = _domains.domain_uuids(connection, autostart=True)
    counted: set[str] = set()
    domains, charges = [], {}
    for domain, stats in _domains.all_domain_stats(connection):
        uuid = domain.UUIDString()
        if "vcpu.current" in stats and "balloon.maximum" in stats and "block.count" in stats:
            vcpus, memory_mb, disks = stats["vcpu.current"], stats["balloon.maximum"] // 1024, _disks_from_stats(stats)
        else:
            vcpus, memory_mb, disks = _from_definition(_definitions.live_xml(domain))
        disks += _volumes(connection, domain, stats)
        charge = _Charge(vcpus, memory_mb, *_disk_charge(disks, device, counted))
        charges[uuid] = charge
        domains.append(
            DomainState(
                name=domain.name(),
                uuid=uuid,
                state=_domains.state_word(stats["state.state"]),
                vcpus=vcpus,
                memory_mb=memory_mb,
                disk_gb=_gb(charge.disk_mb),
                persistent=uuid in persistent,
                autostart=uuid in autostart,
            )
        )
    return domains, charges


def _disks_from_stats(stats: dict[str, Any]) -> list[tuple[str, int]]:
    """Path and virtual size of each disk that has both; an empty drive has none, and an image that libvirt cannot open no size."""
    numbers = range(stats["block.count"])
    return [(stats[f"block.{number}.path"], stats.get(f"block.{number}.capacity", 0)) for number in numbers if f"block.{number}.path" in stats]


def _volumes(connection: Any, domain: Any, stats: dict[str, Any]) -> list[tuple[str, int]]:
    """The same of what is not named by its path, as volumes of storage pools: statistics tell that only while the guest runs."""
    told = all(f"block.{number}.path" in stats for number in range(stats.get("block.count", 0)))
    definition = None if told or _domains.state_word(stats["state.state"]) != "shutoff" else _definitions.live_xml_if_there(domain)
    found = []
    for disk in () if definition is None else _definition.disks(_definition.parse(definition)):
        kind = _kinds.named(disk)
        with contextlib.suppress(KvmfleetError, OSError):
            path = None if kind.by_path else kind.path(connection, disk)
            if path is not None:
                found.append((path, _qemu_img.info(path, disk.format, force_share=True).virtual_size))
    return found


def _from_definition(xml: str) -> tuple[int, int, list[tuple[str, int]]]:
    root = _definition.parse(xml)
    flavor = _definition.flavor_in_force(root)
    found = _definition.disks(root)
    files = [(disk.path, disk.format) for disk in found if _kinds.named(disk).by_path and disk.path and os.path.isfile(disk.path)]
    return flavor.vcpus, flavor.ram, [(path, _qemu_img.info(path, image_format, force_share=True).virtual_size) for path, image_format in files]


def _disk_charge(disks: Iterable[tuple[str, int]], device: int, counted: set[str]) -> tuple[float, float]:
    """MiB promised and MiB still to grow, for images on this filesystem; an image that several domains use counts once."""
    promised = growth = 0.0
    for path, capacity in disks:
        try:
            status = os.stat(path)
        except OSError:
            continue  # a missing image takes no space
        if path not in counted and status.st_dev == device:
            counted.add(path)
            promised += capacity / _MIB
            growth += max(0, capacity - status.st_blocks * 512) / _MIB
    return promised, growth


def _version(command: str) -> str | None:
    """Version of a tool; None where it is not installed."""
    try:
        said = _processes.run([command, "--version"], stall=10).stdout
    except (FileNotFoundError, PermissionError):
        return None
    found = re.search(r"\d+(?:\.\d+)+", said)
    return found.group() if found else None


def _gb(mib: float) -> float:
    return round(mib / 1024, 3)
