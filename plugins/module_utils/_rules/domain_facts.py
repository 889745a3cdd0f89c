# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a host tells of one of its guests: every key of the answer of the module domain_info, in which unit, and which file of the hosts' side writes it.

A plan is made from it. `planning.facts.check_guest` makes sure of the form first, since the host may be of another release, or may lie. What belongs to a
guest besides its disks adds keys of its own, a file a kind (`_guest/belongings`); of these, the ones stand here that a plan reads by name.
"""

from __future__ import annotations

from typing import Any, TypedDict

from .content_id import ContentId


class FlavorFacts(TypedDict, total=False):
    """What the guest has (`_domain.definition.flavor_in_force`, `_guest.facts`)."""

    name: str | None
    """None unless this collection gave it a flavor, and it still has this size."""
    vcpus: int
    """Online at boot."""
    ram: int
    """MiB."""
    disk: int
    """Virtual size of the root disk, GiB, rounded up."""
    ephemeral: int
    """GiB, rounded up."""
    swap: int
    """MiB, rounded up."""
    extra_specs: dict[str, str]
    """Of the flavor that is named."""


class LayerFacts(TypedDict, total=False):
    """One image of a disk, by its header (`_storage.kinds.file`)."""

    path: str
    format: str
    virtual_size: int
    """Bytes that the guest sees."""
    allocated_bytes: int
    """What it takes on its filesystem."""
    file_bytes: int
    """Length of the file."""
    encrypted: bool
    corrupt: bool
    dirty: bool
    snapshots: list[str]
    """Names of those inside the image."""
    mode: str
    """Permissions, octal."""
    identity: ContentId
    """Below the top, by which a base image is known."""


class DiskFacts(TypedDict, total=False):
    """A disk or drive, or a file that the guest boots from (`_guest.disks`), and what is found where it lies (`_storage.kinds`, a file a kind)."""

    target: str
    """As in the definition (vda), or kernel, initrd, dtb."""
    device: str
    """disk, cdrom, floppy; boot_file."""
    source_type: str
    """What it lies in, as the definition calls that."""
    path: str | None
    """Of the image on this host, also of a volume; None for an empty drive."""
    pool: str | None
    volume: str | None
    """Storage pool, and name of the volume in it."""
    format: str
    """Told by the definition, never probed."""
    bus: str | None
    readonly: bool
    shareable: bool
    root: bool
    """A flavor's `disk` is about it."""
    role: str | None
    """ephemeral or swap, where that part of a flavor is about it (`_guest.facts`); no boot file has one."""
    encrypted: bool
    network: dict[str, Any]
    """Of one in network storage: protocol, name, hosts, files."""
    left_out: str
    """Path of a medium that is gone and without which the guest starts."""
    chain: list[LayerFacts]
    """The layer that the guest writes to first."""
    virtual_size: int | None
    """Bytes; None for network storage of which libvirt cannot tell."""
    allocated_bytes: int
    file_bytes: int
    """Of the top layer."""
    error: dict[str, str]
    """code and message, why it cannot be read; then nothing of the four above is told."""


class DomainFacts(TypedDict, total=False):
    """One guest on one host (`_guest.facts.domain_facts`)."""

    # What libvirt says of it.
    name: str
    uuid: str
    state: str
    """running, shutoff ... (`_rules.guest_states`)."""
    persistent: bool
    autostart: bool
    managed_save: bool
    """Its memory is saved, to be restored with the next start."""
    origin: dict[str, str] | None
    """Where a drain took it from, until it is at home: host, drain, at (UTC)."""

    # The machine that it sees.
    machine: str | None
    arch: str
    virt_type: str
    """kvm or qemu."""
    emulator: str | None
    cpu: dict[str, Any]
    """mode and model, as defined; features: all that a named model gives, None where the host decides."""
    secure_boot: bool
    firmware: dict[str, Any]
    """kind (bios, uefi), loader, loader_format, nvram, nvram_format, nvram_template."""
    flavor: FlavorFacts
    disks: list[DiskFacts]
    free_targets: list[str]
    """For further disks on the bus of the root disk."""
    boot_files: list[DiskFacts]
    interfaces: list[dict[str, Any]]
    """mac, type, source, model, mtu (bytes)."""

    # What it takes of a host: as it is, or as it will be with the flavor that was given.
    cpu_shares: int | None
    host_cpus: dict[str, Any] | None
    """cpus and nodes: numbers that the definition names, but for those that are chosen at each host."""
    pinned_cpus: list[int]
    """CPUs of this host that it has to itself."""
    huge_pages: dict[str, Any] | None
    """page_kib (None for the host's default), memory_mb, nodes."""
    exclusive: dict[str, list[str]]
    """What it wants to itself, by kind (`_rules.exclusive`)."""

    # What it refers to outside its definition.
    secrets: list[dict[str, Any]]
    """uuid, usage_type, usage, by, needed_by, missing, withheld (`_guest.secrets`); never a value."""
    references: list[dict[str, str]]
    """kind, name, answer (carry, keep, refuse), reason, element (`_domain.referring`)."""
    owners: dict[str, Any]
    """Owner, mode and label of each file by its name in the channel (`_storage.qemu_access`)."""
    directories: dict[str, Any]
    """The same of directories of its own (`_storage.directories`)."""

    # What belongs to it besides.
    tpm: dict[str, str] | None
    """model and version."""
    snapshots: list[dict[str, Any]]
    """name, current, external; parents first."""
    console_logs: list[dict[str, Any]]
    """path, append."""
    not_layered: list[str]
    """Why no layer may come over its disks while it runs, in words (`_guest.belongings.registry`)."""
    not_in_place: list[dict[str, str]]
    """code and reason, why none may come over them for a resize in place (the same)."""

    # What is to be thought of.
    agent: dict[str, bool]
    """configured; connected now."""
    live_differences: list[dict[str, Any]]
    """what, now, defined, unkeepable, text: what the running guest has and its definition does not say, or the other way round."""
    xml_digest: str
    """The fingerprint of the definition: its SHA-256, without secrets."""
    refusals: list[dict[str, str]]
    """code and reason, why it cannot be moved as it is."""
