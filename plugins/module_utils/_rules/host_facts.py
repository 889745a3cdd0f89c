# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a host tells of itself, the fact `kvmfleet_host`: every key, in which unit, and who writes it.

The module host_facts makes it, from what the inventory says of the host and what `_host.state` reads there. The role writes a short one for a host that does
not answer. `planning.facts.checked` makes sure of the form, since facts may be old, of another release, or a lie.
"""

from __future__ import annotations

from typing import Any, TypedDict


class HostFacts(TypedDict, total=False):
    """One host."""

    # What the inventory says, or the role by it.
    host: str
    """What the inventory calls it."""
    availability_zone: str | None
    aggregates: list[dict[str, Any]]
    """name and metadata of each."""
    enabled: bool
    """Guests may come."""
    maintenance: Any
    """What closes it for guests that come: the record that it keeps of its drain (`_journal.maintenance`), else what the inventory says, in words."""
    maintenance_told: str | None
    """What the inventory says."""
    cpu_dedicated_set: str
    """CPUs that are set aside for guests with CPUs of their own, such as 4-11,^8."""
    cpu_allocation_ratio: float | None
    ram_allocation_ratio: float | None
    disk_allocation_ratio: float | None
    """The host's own; None for that of the fleet."""
    reserved: dict[str, int]
    """What it keeps for itself: memory_mb, vcpus, disk_mb."""
    images_path: str
    disk_directories: list[dict[str, Any]]
    """Further directories: name, path, exists."""
    mappings: dict[str, dict[str, str]]
    """kind (bridges, networks, pools, emulators, firmware) -> the fleet's name -> what this host calls it."""

    # When, and by whom, it was told.
    run: str | None
    """The run that gathered it, by its name."""
    gathered_at: float | None
    """Unix seconds by the controller's clock."""
    gathered_by: str | None
    """Whose clock that is."""
    now: float
    """Unix seconds by the clock of the host, which its journal has too."""

    # Instead of what follows, of a host that does not answer: the role, the filters.
    up: bool
    reachable: bool
    down_reason: str
    read_now: bool
    """It was gathered in the run that decides (`planning.freshness`)."""

    # What it is (`_host.state`, `_host.capabilities`).
    machine_id: str
    """By which one host under two names is noticed."""
    hostname: str
    """What it calls itself."""
    libvirt_version: int
    hypervisor_version: int
    """major * 1000000 + minor * 1000 + release."""
    hypervisor_type: str
    python_version: str
    arch: str
    cpu_model: str | None
    capabilities: dict[str, Any]
    """cpu_info, for extra specs of flavors."""
    emulators: dict[str, str]
    """Architecture of a guest -> path."""
    virt_types: list[str]
    supported_instances: list[list[str]]
    """Architecture, virtualization type and guest type."""
    machine_types: list[str]
    host_ip: str | None
    """From which it reaches others."""
    cgroup_version: int | None
    numa_cells: list[dict[str, Any]]
    """id, cpus, cpu_list, pinned_cpus, pinned_cpu_list, memory_mb, free_pages (by size in KiB)."""
    pci_devices: list[dict[str, Any]]
    """vendor_id, product_id, numa_node and count of those that are free."""
    cpu: dict[str, Any] | None
    """The CPU that guests can have; None, as for the next two, where libvirt cannot tell."""
    firmware: dict[str, Any] | None
    tpm: dict[str, Any] | None
    files: dict[str, list[str]]
    """Names of emulators and of firmware, by directory."""
    bases: list[str]
    """SHA-256 of base images that it is known to hold."""
    qemu: dict[str, Any]
    """As whom QEMU runs: user, group, uid, gid; dynamic_ownership, remember_owner."""
    networks: list[str]
    bridges: list[str]
    nwfilters: list[str]
    pools: list[dict[str, Any]]
    """name, active, type, path."""
    tools: dict[str, str | None]
    """Versions of nbdkit, qemu_storage_daemon, nbdcopy, qemu_img."""
    metrics: dict[str, float]
    """For Nova's MetricsWeigher; nobody writes any."""

    # What it has, and what is promised of it (`_host.state.usage`).
    vcpus: int
    vcpus_used: int
    memory_mb: int
    memory_mb_used: int
    """MiB; what is used is promised, reserved memory included."""
    local_gb: float
    local_gb_used: float
    disk_available_least: float
    """GiB of the filesystem of images; the last is left if every disk fills up."""
    disk_total_mb: int
    disk_free_mb: int
    """MiB, as of now."""
    num_instances: int
    instances: list[str]
    """UUIDs of those that are defined or claimed."""
    domains: list[dict[str, Any]]
    """Its guests, as placement counts them: name, uuid, state, vcpus, memory_mb (MiB), disk_gb (GiB promised on that filesystem), persistent, autostart."""
    origins: dict[str, dict[str, str]]
    """UUID of a guest that a drain took from another host -> host, drain, at (UTC)."""
    macs: list[str]
    exclusive: dict[str, dict[str, str]]
    """kind -> value -> who has it to itself (`_host.taken`)."""

    # What its journal says (`_journal.records`).
    migrations: list[dict[str, Any]]
    """Open records without private keys, with `progress` while a copy comes and `has_run` where one is complete."""
    forced_migrations: list[dict[str, Any]]
    """Those that were ended without a lost host, which has not been seen since."""
    claims: list[dict[str, Any]]
    num_io_ops: int
    """Operations that are at work here."""
    failed_builds: int
    """Those in a row that ended in an error here as their destination."""
    copy_rates: dict[str, int]
    """Host -> bytes a second of the latest copy from there."""
