# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a host remembers of one operation: every key of a record of the journal, who writes it, and in which unit.

A record is begun by `Journal.begin` from the record of the plan (`planning.record.begun`). Keys that are written later are missing until then, and in
records of an older release. `_journal.records` keeps records; nothing else writes them.
"""

from __future__ import annotations

from typing import Any, TypedDict


class DiskRecord(TypedDict, total=False):
    """One disk, medium or boot file of the guest. The plan writes it, with the paths of the source; a destination keeps it with its own."""

    target: str
    """As in the definition (vda), or kernel, initrd, dtb."""
    kind: str
    """`disk` if the guest writes to it; `media` if it only reads it, which stays at the source."""
    pool: str | None
    """Storage pool, for a volume."""
    volume: str | None
    """Name of the volume in it."""
    path: str
    format: str
    """qcow2 or raw; told by the definition, never probed."""
    chain: list[list[Any]]
    """Path, format and virtual size (bytes) of each layer at the source, the one that the guest writes to first."""
    allocated_bytes: int
    """What the top layer takes on its filesystem."""
    virtual_size: int
    """Bytes that the guest sees."""
    encrypted: bool
    base: dict[str, Any] | None
    """The layer right below the top one, as in `bases`."""
    bases: list[dict[str, Any]]
    """Base images, the lowest first: each a `ContentId` (`_rules.content_id`) with its path, and `backing`, the one below."""
    grow_to: int | None
    """Bytes, where the flavor has it larger."""
    left_behind: bool
    """The guest does not have it any more after the switch; a revert needs it."""
    shared: bool
    """Both hosts see the same file (claim; migration shared)."""


class Record(TypedDict, total=False):
    """One operation on one host."""

    # Who and what: the plan and `begin`.
    schema_version: int
    """Of the state directory (`_journal.state_dir`)."""
    uuid: str
    """Of the operation; the same on all of its hosts."""
    owner: str
    """Of the run that may act on it; changed by `take_over`."""
    role: str
    """What this host is to the operation: source, destination or in_place."""
    instance_uuid: str
    instance_name: str
    migration_type: str
    """resize or migration, as Nova calls them."""
    source_host: str
    """Names of hosts are those of the inventory."""
    destination_host: str | None
    """None at the source until a destination has taken it (source_copy)."""
    old_flavor: dict[str, Any]
    new_flavor: dict[str, Any]
    """vcpus, ram (MiB), disk and ephemeral (GiB), swap (MiB), extra_specs, name."""
    tuning: dict[str, Any] | None
    """What extra specs set in the definition; None for a migration."""
    availability_zone: str | None
    """As the request had it."""
    requested_by: dict[str, Any]
    """User, and the job where AWX tells one."""
    reason: str | None
    part_of: dict[str, Any] | None
    """What the move is part of: kind (drain or restore), uuid, host (that is drained or restored), order and run (which acts). None for a single one."""
    image_directories: list[str]
    """Where files of guests may lie on this host."""

    # What belongs to the guest: the plan; a destination has its own paths.
    disks: list[DiskRecord]
    new_disks: list[dict[str, Any]]
    """Disks that the flavor adds: role, target, path, format, size (bytes), pool, volume, beside."""
    dropped_disks: list[str]
    left_out: list[str]
    """Targets of drives whose medium is gone, which come empty."""
    flavor_disks: dict[str, Any] | None
    """Which disks are the ephemeral one and swap, for the metadata of the guest."""
    nvram: str | None
    """Path of the firmware variables."""
    tpm: bool
    """The guest has an emulated one."""
    console_logs: list[dict[str, Any]]
    secrets: list[dict[str, Any]]
    """What libvirt must know for the guest, without values."""
    owners: dict[str, Any]
    """Owner, mode and label of each file at the source, by its name in the channel."""
    directories: dict[str, Any]
    """The same for directories of the guest's own."""
    xml_digest: str
    """Fingerprint of the definition that the plan was made from; again after `keep` and with layers of ours."""
    agent_expected: bool
    """The agent answered when the plan was made."""
    live_differences: dict[str, Any]
    """`answer` (keep, drop or None) and what was `found`."""

    # Where it stands: `_journal.records`.
    status: str
    """Of Nova's migration record, see `_rules.statuses`."""
    step: str
    """Where inside a status."""
    created_at: float
    updated_at: float
    """Unix seconds of this host's clock, as all times here."""
    lease_until: float
    """Until then nobody but the owner acts, unless it has gone."""
    abandoned: bool
    """Its run has gone, and said so."""
    boot_id: str
    """Of the kernel that the last step was written under."""
    history: list[dict[str, Any]]
    """at, status, step, note, and by and reason where a run began to act; the last 200."""
    error: str | None
    """Why it was undone."""
    taken_over_by: dict[str, Any]
    forced: dict[str, Any]
    """The operation was ended without its other host: lost_host, at, released_at, and who said so."""

    # At the destination, before the switch: claim, base_image, destination_copy.
    mappings: dict[str, Any]
    """What this host calls otherwise than the source."""
    requirements: dict[str, Any]
    """What the plan asks of this host."""
    probes: dict[str, Any]
    """Files by which two hosts find out that they see one directory."""
    pins: list[int] | None
    """CPUs of this host that the guest has to itself."""
    looks: dict[str, Any]
    """Owner and mode that each file of the guest gets here, found out by trying."""
    made_directories: dict[str, Any]
    """Directories made here for the guest, by inode."""
    own_directories: dict[str, Any]
    """At the source: those that go with the guest once they are empty."""

    # Pre-copy: source_copy frozen, destination_copy precopied.
    layers: int
    """How many lie under the running guest."""
    frozen_bytes: int
    """What the newest frozen layer held."""
    media: dict[str, Any]
    """Stamps of media that were offered with the first round."""
    folded: bool
    """All layers are merged; their files may be there still."""
    rounds: int
    """How many have arrived."""
    precopied_bytes: int
    """Bytes that travelled in them."""

    # The switch: `_operation.sealing`, `_operation.receiving`, `_operation.in_place`.
    stopped: dict[str, Any]
    """How the guest was stopped, and when."""
    was_running: bool
    autostart: bool
    private: dict[str, Any]
    """The definition of the switch, and by its name what each kind in `_guest.belongings` keeps with it. Never shown; dropped when the operation ends."""
    before_keeping: Any
    """The definition before `live_differences=keep` changed it; private as well."""
    kept_digest: str
    """Fingerprint of the definition that `keep` has written."""
    sealed_nvram: bool
    kept_nvram: dict[str, Any] | None
    """Size and checksum of the copy of the firmware variables, in place."""
    nvram_back: bool
    """They were put back."""
    carried_secrets: list[str]
    """At the source: secrets that the destination asked for."""
    defined_secrets: list[str]
    """At the destination: secrets that this operation has defined."""
    transport: str
    """nbdkit or qemu-nbd."""
    tunnel: bool
    """The copy goes through the controller's ssh."""
    inodes: dict[str, int]
    """Files that this operation gave their names, by path."""
    log_inodes: dict[str, int]
    """Console logs that it made."""
    published: dict[str, list[int]]
    """Stamps of all files that the guest may write to, before it can be started (`_storage.run_evidence`)."""
    withdrawing: bool
    """It was decided to go back: nothing may start the copy any more."""

    # Afterwards, for results, placement and history.
    started_at: float
    came_up: dict[str, Any]
    timings: dict[str, float]
    """Unix seconds of the steps of the switch."""
    bytes_transferred: int
    resumed_bytes: int
    """Of these, what an earlier operation had copied."""
    copied_by: str
    """nbdcopy, or what stood in for it."""
    copy_rate: int
    """Bytes a second."""
    copy_limit: int
    """The limit of that, bytes a second; 0 for none."""
