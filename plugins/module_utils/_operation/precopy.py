# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Pre-copy at the source: the disks of a running guest are frozen under a new layer, round by round, until little is left to copy while it is off.

A layer is an external snapshot of all writable disks at once, which libvirt keeps no record of. What is frozen travels while the guest writes
to the next layer. Nothing is merged at the source on the way forward: a confirm deletes the layers with the disk that they lie on, and only
going back folds them into it, so that the disk is one file of its old name again.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any

from .._channel.checksums import data_bytes
from .._domain import definition as _definition
from .._journal.records import Journal
from .._libvirt import blocks as _blocks, definitions as _definitions, domains as _domains, guest_agent as _guest_agent
from .._rules import file_names as _file_names
from .._rules.errors import KvmfleetError
from .._storage import files as _files, merging as _merging, qemu_access as _qemu_access
from .._storage.disk_use import DiskUses
from .._storage.incoming import travelling, writable
from .._system import whole_file as _whole_file

_LITTLE = 4 * 1024 * 1024  # bytes that are not worth another round, however slow the link
_CONVERGING = 0.8  # a layer this much smaller than the one before is worth a round of its own


def layer_path(record: dict[str, Any], disk: dict[str, Any], number: int) -> str:
    """Layer `number` of a disk, beside it; number 0 is the disk itself."""
    return _file_names.beside(disk["path"], _file_names.PRECOPY, record, number) if number else disk["path"]


def layers(record: dict[str, Any], disk: dict[str, Any]) -> list[str]:
    """The layers that may lie on a disk, the newest first."""
    return [layer_path(record, disk, number) for number in range(record.get("layers", 0), 0, -1)] if disk in writable(record) else []


def require_running(domain: Any, record: dict[str, Any]) -> None:
    """KvmfleetError `not_running`: the disks of a guest that is off need no layers."""
    if not _domains.is_active(domain):
        raise KvmfleetError("not_running", f"Guest {record['instance_name']} went off while its disks were being copied.", instance=record["instance_name"])


def freeze(
    conn: Any, journal: Journal, record: dict[str, Any], domain: Any, *, rate: float, downtime: float, max_rounds: int, quiesce: bool
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Freeze what the guest has written so far, unless what is left can as well travel while it is off.

    :param rate: bytes a second of the best round so far, 0 before the first one; :param downtime: seconds that the last copy may take.
    :param quiesce: let the guest agent freeze the filesystems meanwhile, so that what they hold in memory travels now.
    :returns: the record, and `frozen` with the `reason` if nothing was; the `round`, the `bytes` of what is frozen, and whether it was `quiesced`.
    """
    done = record.get("layers", 0)
    written = sum(data_bytes(layer_path(record, disk, done)) for disk in writable(record))
    reason = _enough(record, written, done, rate, downtime, max_rounds) or _no_room(record, written)
    if reason:
        return record, {"frozen": False, "reason": reason, "round": done, "bytes": written, "quiesced": None}
    changes: dict[str, Any] = {"layers": done + 1, "frozen_bytes": written}
    if not done:
        changes["private"] = {"unlayered_xml": _definitions.inactive_xml(domain)}
        changes["media"] = {disk["target"]: _stamp(disk["path"]) for disk in travelling(record) if disk["kind"] == "media"}
    record = journal.update(record, step="precopying", **changes)
    top = {disk["target"]: layer_path(record, disk, done + 1) for disk in writable(record)}
    others = [disk.target for disk in _definition.disks(_definition.parse(_definitions.live_xml(domain))) if disk.target not in top]
    with _made_for(record, top, done):
        quiesced = _blocks.layer_disks(domain, top, others, quiesce=quiesce)
    record = journal.update(record, xml_digest=_definitions.fingerprint(domain))
    return record, {"frozen": True, "reason": None, "round": done, "bytes": written, "quiesced": quiesced}


@contextlib.contextmanager
def _made_for(record: dict[str, Any], top: dict[str, str], below: int) -> Iterator[None]:
    """The layers as empty files with owner and mode of what they lie on, which libvirt fills: those that it makes itself QEMU could not always open."""
    made: list[str] = []
    try:
        for disk in writable(record):
            with _whole_file.make(top[disk["target"]], _qemu_access.look_of(layer_path(record, disk, below))):
                made.append(top[disk["target"]])
        yield
    except BaseException:
        _files.remove_unfinished(path for path in made if os.path.exists(path) and not os.path.getsize(path))
        raise


def frozen_files(record: dict[str, Any], number: int) -> dict[str, str]:
    """Name in the channel -> path of what round `number` has to carry: the disks and media, and then one layer of each disk after the other."""
    files = {disk["target"]: layer_path(record, disk, number) for disk in writable(record)}
    return files if number else {**files, **{disk["target"]: disk["path"] for disk in travelling(record) if disk["kind"] == "media"}}


def unchanged_media(record: dict[str, Any]) -> list[str]:
    """Targets of the media that travelled in the first round, and that nobody touched since."""
    sent = record.get("media", {})
    return [disk["target"] for disk in record["disks"] if disk["target"] in sent and sent[disk["target"]] == _stamp(disk["path"])]


def fold(conn: Any, journal: Journal, record: dict[str, Any], *, timeout: float) -> dict[str, Any]:
    """Merge all layers into the disks that they lie on, and remove them; a running guest goes on running. Repeating it is safe.

    :param timeout: seconds without progress after which it is given up.
    :raises KvmfleetError: those of `_storage.merging`, with nothing merged where somebody else stands on a layer; those of `_storage.qemu_img.chain`,
        where somebody has rewritten a header meanwhile; `guest_frozen`.
    """
    if not record.get("layers"):
        return record
    domain = _domains.find_domain(conn, record["instance_uuid"])
    if domain is not None and record["step"] == "precopying" and _domains.is_active(domain):
        _guest_agent.require_thawed(domain)
    uses = DiskUses(conn, journal.state)
    stacks = [_merging.Stack(disk, layers(record, disk)) for disk in writable(record)]
    if not record.get("folded"):
        tops = _merging.tops(conn, uses, record, stacks)
        for stack in stacks:
            if stack.disk["target"] in tops:
                _merging.merge(conn, record, stack.disk, tops[stack.disk["target"]], timeout=timeout)
        # Without a definition only the journal knows that an older layer must not be merged over a newer one that is gone already.
        record = journal.update(record, folded=True)
    _merging.remove(uses, record, stacks)
    return record


def _enough(record: dict[str, Any], written: int, done: int, rate: float, downtime: float, max_rounds: int) -> str | None:
    """Why another round is not worth it."""
    if not done:
        return None if writable(record) else "no disk of the guest has to travel"
    if written <= max(_LITTLE, rate * downtime):
        return f"{written} bytes are left, which take no longer than {downtime:g} s"
    if done >= max_rounds:
        return f"{max_rounds} rounds are over and {written} bytes are left; the guest writes too much for fewer"
    if written > record["frozen_bytes"] * _CONVERGING:
        return f"the guest writes about as fast as the copy travels, {written} bytes in the last round"
    return None


def _no_room(record: dict[str, Any], need: int) -> str | None:
    """While so much travels, the guest is taken to write no more than that."""
    for disk in writable(record):
        directory = os.path.dirname(disk["path"])
        status = os.statvfs(directory)
        free = status.f_bavail * status.f_frsize
        if free < need:
            return f"{directory} has {free} bytes free, too few for what the guest writes while {need} bytes travel"
    return None


def _stamp(path: str) -> list[int]:
    """Without the time of its inode, which changes as libvirt gives the file back to its owner."""
    status = os.stat(path)
    return [status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns]
