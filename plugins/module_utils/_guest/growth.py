# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Grow the last filesystem on a disk from inside the guest, with the guest's own programs, or say why that cannot be.

Nothing is forced: growpart refuses what it does not understand and puts the old table back if it fails, and the programs that grow a mounted
filesystem only ever add to it.
"""

from __future__ import annotations

import contextlib
import re
import time
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from .._domain import definition as _definition
from .._libvirt import definitions as _definitions, domains as _domains
from .._rules.errors import KvmfleetError, shown
from . import filesystem as _filesystem
from .agent import RUN, Ended, GuestAgent, field
from .filesystem import Mounted, Partition

GROWN, ALREADY_GROWN, WOULD_GROW, NOT_GROWN = "grown", "already_grown", "would_grow", "not_grown"

_MIB = 1024**2
_SECTOR = 512  # of sysfs, whatever the disk has
_ALIGNMENT = 4 * _MIB
"""What growpart may leave free at the end of a disk: it does not bother about 1 MiB, and the end of a GPT needs some sectors."""
_METADATA_SHARE = 8
"""A filesystem has less room than its partition, but by less than one of so many parts."""
_SYSTEM_DIRECTORIES = ("/usr/sbin", "/usr/bin", "/sbin", "/bin")
_GROWPART, _STAT, _CLOUD_INIT = "growpart", "stat", "cloud-init"
_PACKAGES = {"growpart": "cloud-guest-utils or cloud-utils-growpart", "resize2fs": "e2fsprogs", "xfs_growfs": "xfsprogs", "btrfs": "btrfs-progs"}
_CLOUD_INIT_POLL = 2.0
_NOTHING_TO_GROW = 1
"""Exit status of growpart."""
_STACKED = re.compile(r"dm-[0-9]{1,4}")
_STACKED_KINDS = {"LVM": ("lvm", "an LVM volume"), "CRYPT": ("encrypted", "an encrypted volume")}


@dataclass(frozen=True)
class Sizes:
    """Bytes, as the guest sees them; the filesystem without its metadata."""

    disk_bytes: int
    partition_offset: int
    partition_bytes: int
    filesystem_bytes: int


def grow(domain: Any, target: str | None, *, timeout: float, dry_run: bool) -> dict[str, Any]:
    """Grow the last partition of a disk and the filesystem on it to the end of the disk.

    :param target: of the disk in the definition; None is the root disk. :param timeout: seconds that the guest has for all of it.
    :param dry_run: only find out what would be done.
    :returns: see RETURN of the module guest_filesystem; `code` and `reason` say why nothing was grown.
    :raises KvmfleetError: `unknown_disk`.
    """
    root = _definition.parse(_definitions.live_xml(domain))
    found: dict[str, Any] = {"disk": _target(domain, root, target), "answer": NOT_GROWN, "code": None, "changed": False}
    found.update(dict.fromkeys(("mountpoint", "type", "device", "before", "after")), programs=[])
    try:
        if _domains.state_name(domain) != "running":
            raise KvmfleetError("not_running", f"{domain.name()} is {_domains.state_name(domain)}; only a guest that runs can grow its filesystem.")
        agent = GuestAgent(domain, timeout)
        mounted = _last_mounted(agent, root, found["disk"])
        found.update(mountpoint=mounted.mountpoint, type=mounted.type, device=f"/dev/{mounted.device}")
        _require_plain(agent, mounted)
        _grow(agent, mounted, found, dry_run)
    except KvmfleetError as exc:
        found.update(code=exc.code, reason=exc.message)
    return found


def _target(domain: Any, root: ET.Element, target: str | None) -> str:
    disks = [disk for disk in _definition.disks(root) if disk.device == "disk"]
    chosen = next((disk.target for disk in disks if (disk.is_root if target is None else disk.target == target)), None)
    if chosen is None:
        have = [disk.target for disk in disks]
        wanted = "it has no root disk" if target is None else f"{target!r} is none of its disks"
        raise KvmfleetError("unknown_disk", f"disk: {wanted}; {domain.name()} has {', '.join(have) or 'none'}.", need=target, have=have)
    return chosen


def _last_mounted(agent: GuestAgent, root: ET.Element, target: str) -> Mounted:
    """The filesystem nearest to the end of the disk."""
    enabled = agent.enabled()
    if "guest-get-osinfo" in enabled and field(agent.ask("guest-get-osinfo"), "id", str, optional=True) == "mswindows":
        raise KvmfleetError("unsupported_system", "The guest runs Windows, whose partitions are grown by its own disk management (Resize-Partition).")
    agent.require(("guest-get-fsinfo", *RUN))
    address = _filesystem.address(root, target)
    mounted = _filesystem.mounted_on(address, agent.ask("guest-get-fsinfo")) if address else []
    if not mounted:
        raise KvmfleetError("no_filesystem", f"The guest agent tells of no mounted filesystem on {target}.")
    partitions = sorted({one.partition.name for one in mounted if one.partition.number})
    starts = _numbers(agent, *(f"/sys/class/block/{name}/start" for name in partitions)) if len(partitions) > 1 else []
    return _filesystem.last(mounted, dict(zip(partitions, starts)))


def _require_plain(agent: GuestAgent, mounted: Mounted) -> None:
    """The filesystem lies on the partition itself, and is one that grows while it is mounted."""
    if mounted.stacked:
        code, what = "unsupported_device", "another device"
        if _STACKED.fullmatch(mounted.device):
            kind = agent.run("/bin/cat", f"/sys/class/block/{mounted.device}/dm/uuid").stdout.partition("-")[0]
            code, what = _STACKED_KINDS.get(kind, ("unsupported_device", "a volume of the device mapper"))
        raise KvmfleetError(
            code,
            f"The filesystem on {mounted.mountpoint} lies on {what} ({mounted.device}) on /dev/{mounted.partition.name}, which the guest's own tools grow.",
        )
    if not _program(mounted):
        raise KvmfleetError("unsupported_filesystem", f"{mounted.mountpoint} is {mounted.type}; ext2, ext3, ext4, xfs and btrfs grow while they are mounted.")


def _grow(agent: GuestAgent, mounted: Mounted, found: dict[str, Any], dry_run: bool) -> None:
    partition, program = mounted.partition, _program(mounted)
    there = _programs(agent, (_GROWPART, _STAT, _CLOUD_INIT, program[0]))
    needed = [*([_GROWPART] if partition.number else []), program[0]]
    for name in [*needed, _STAT]:
        if name not in there:
            raise KvmfleetError("no_program", f"The guest has no {name}{f' (package {_PACKAGES[name]})' if name in _PACKAGES else ''}.", program=name)
    found["programs"] = [there[name] for name in needed]
    if _CLOUD_INIT in there and not dry_run:
        _await_cloud_init(agent, there[_CLOUD_INIT])  # it may be about to do the same
    before = _sizes(agent, mounted, there[_STAT])
    found["before"] = asdict(before)
    if dry_run:
        room = partition.number is not None and _growpart(agent, there[_GROWPART], partition, before, "--dry-run")
        changed = room or before.partition_bytes - before.filesystem_bytes > before.partition_bytes // _METADATA_SHARE
        found.update(answer=WOULD_GROW if changed else ALREADY_GROWN, changed=changed)
    else:
        found["changed"] = True  # as far as anybody knows, should the guest fall silent
        try:
            if partition.number:
                _growpart(agent, there[_GROWPART], partition, before)
            _succeeded(agent.run(there[program[0]], *program[1:]), there[program[0]])
        except KvmfleetError:
            with contextlib.suppress(KvmfleetError):
                _note_after(found, _sizes(agent, mounted, there[_STAT]))
            raise
        _note_after(found, _sizes(agent, mounted, there[_STAT]))
        found["answer"] = GROWN if found["changed"] else ALREADY_GROWN
    found["reason"] = _told(found)


def _note_after(found: dict[str, Any], sizes: Sizes) -> None:
    found["after"] = asdict(sizes)
    found["changed"] = found["after"] != found["before"]


def _program(mounted: Mounted) -> Sequence[str]:
    """What grows a mounted filesystem to the end of its device."""
    if mounted.type in ("ext2", "ext3", "ext4"):
        return ("resize2fs", f"/dev/{mounted.partition.name}")
    return {"xfs": ("xfs_growfs", mounted.mountpoint), "btrfs": ("btrfs", "filesystem", "resize", "max", mounted.mountpoint)}.get(mounted.type, ())


def _programs(agent: GuestAgent, names: Sequence[str]) -> dict[str, str]:
    """Those that the guest has, by name; what is not where a system keeps its programs is not taken."""
    paths = [f"{directory}/{name}" for name in names for directory in _SYSTEM_DIRECTORIES]
    there = set(agent.run("/bin/ls", "-d", *paths).stdout.splitlines())
    return {path.rpartition("/")[2]: path for path in reversed(paths) if path in there}


def _await_cloud_init(agent: GuestAgent, program: str) -> None:
    while "status: running" in agent.run(program, "status").stdout:
        time.sleep(_CLOUD_INIT_POLL)


def _growpart(agent: GuestAgent, program: str, partition: Partition, sizes: Sizes, *options: str) -> bool:
    """Whether the partition was grown, or would be."""
    ended = agent.run(program, *options, f"/dev/{partition.disk}", str(partition.number))
    if ended.status != _NOTHING_TO_GROW:
        _succeeded(ended, program)
        return True
    behind = sizes.disk_bytes - sizes.partition_offset - sizes.partition_bytes
    if behind > _ALIGNMENT:
        raise KvmfleetError(
            "no_room_behind",
            f"/dev/{partition.name} cannot be grown, although the disk goes on for {behind // _MIB} MiB behind it: another partition lies there, or the "
            "partition table reaches no further (2 TiB for MBR).",
            bytes_behind=behind,
        )
    return False


def _succeeded(ended: Ended, program: str) -> None:
    if ended.status:
        raise KvmfleetError("program_failed", f"{program} ended with status {ended.status}: {shown(ended.stderr or ended.stdout) or 'it said nothing'}.")


def _sizes(agent: GuestAgent, mounted: Mounted, stat: str) -> Sizes:
    partition = mounted.partition
    own = (f"/sys/class/block/{partition.name}/start", f"/sys/class/block/{partition.name}/size") if partition.number else ()
    disk, *place = (sectors * _SECTOR for sectors in _numbers(agent, f"/sys/class/block/{partition.disk}/size", *own))
    start, size = place or (0, disk)
    blocks, block_bytes = _parsed(agent.run(stat, "-f", "-c", "%b %S", mounted.mountpoint), 2)
    return Sizes(disk, start, size, blocks * block_bytes)


def _numbers(agent: GuestAgent, *paths: str) -> list[int]:
    return _parsed(agent.run("/bin/cat", *paths), len(paths))


def _parsed(ended: Ended, count: int) -> list[int]:
    words = ended.stdout.split()
    if ended.status or len(words) != count or not all(word.isascii() and word.isdigit() and len(word) < 19 for word in words):
        raise KvmfleetError("invalid_agent_answer", f"The guest does not tell its sizes: {shown(ended.stderr or ended.stdout) or 'it said nothing'}.")
    return [int(word) for word in words]


def _told(found: dict[str, Any]) -> str:
    before, after = found["before"], found["after"] or found["before"]
    what, programs = f"{found['device']} ({found['type']} on {found['mountpoint']})", " and ".join(found["programs"])
    disk = f"the disk of {after['disk_bytes'] // _MIB} MiB"
    if found["answer"] == GROWN:
        return f"{what} was grown from {before['filesystem_bytes'] // _MIB} to {after['filesystem_bytes'] // _MIB} MiB in {disk}, by {programs}."
    if found["answer"] == WOULD_GROW:
        return f"{what} would be grown from {before['filesystem_bytes'] // _MIB} MiB to the end of {disk}, by {programs}."
    return f"{what} fills {disk}" + (f", and would grow with it, by {programs}." if found["after"] is None else " already.")
