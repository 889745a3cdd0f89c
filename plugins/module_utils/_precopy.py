# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Pre-copy at the source: the disks of a running guest are frozen under a new layer, round by round, until little is left to copy while it is off.

A layer is an external snapshot of all writable disks at once, which libvirt keeps no record of. What is frozen travels while the guest writes
to the next layer. Nothing is merged at the source on the way forward: a confirm deletes the layers with the disk that they lie on, and only
going back folds them into it, so that the disk is one file of its old name again.
"""

from __future__ import annotations

import os
from typing import Any

from . import _domain_edit, _domain_xml, _libvirt, _names, _qemu_img
from ._content_digest import data_bytes
from ._errors import KvmfleetError
from ._incoming import travelling, writable
from ._journal import Journal

FREEZABLE_STEPS = ("begun", "precopying")
_LITTLE = 4 * 1024 * 1024  # bytes that are not worth another round, however slow the link
_CONVERGING = 0.8  # a layer this much smaller than the one before is worth a round of its own


def layer_path(record: dict[str, Any], disk: dict[str, Any], number: int) -> str:
    """Layer `number` of a disk, beside it; number 0 is the disk itself."""
    return _names.beside(disk["path"], _names.PRECOPY, record, number) if number else disk["path"]


def layers(record: dict[str, Any], disk: dict[str, Any]) -> list[str]:
    """The layers that may lie on a disk, the newest first."""
    return [layer_path(record, disk, number) for number in range(record.get("layers", 0), 0, -1)] if disk in writable(record) else []


def require_running(domain: Any, record: dict[str, Any]) -> None:
    """KvmfleetError `not_running`: the disks of a guest that is off need no layers."""
    if not _libvirt.is_active(domain):
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
        changes["private"] = {"unlayered_xml": _libvirt.inactive_xml(domain)}
        changes["media"] = {disk["target"]: _stamp(disk["path"]) for disk in travelling(record) if disk["kind"] == "media"}
    record = journal.update(record, step="precopying", **changes)
    top = {disk["target"]: layer_path(record, disk, done + 1) for disk in writable(record)}
    others = [disk.target for disk in _domain_xml.disks(_domain_xml.parse(_libvirt.live_xml(domain))) if disk.target not in top]
    quiesced = _libvirt.layer_disks(domain, top, others, quiesce=quiesce)
    record = journal.update(record, xml_digest=_libvirt.xml_digest(domain))
    return record, {"frozen": True, "reason": None, "round": done, "bytes": written, "quiesced": quiesced}


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
    :raises KvmfleetError: those of `_qemu_img.chain`, where somebody has rewritten a header meanwhile; `layer_has_snapshots`.
    """
    if not record.get("layers"):
        return record
    domain = _libvirt.find_domain(conn, record["instance_uuid"])
    for disk in writable(record):
        known = layers(record, disk)
        top = next((path for path in known if os.path.lexists(path)), None) if domain is None else _path_of(domain, disk["target"])
        if top not in known or (domain is None and record.get("folded")):
            continue
        for path in filter(os.path.lexists, known):
            _qemu_img.assert_no_snapshots(path)
        if domain is not None and _libvirt.is_active(domain):
            _libvirt.commit_and_pivot(domain, disk["target"], base=disk["path"], top=top, timeout=timeout)
        else:
            _qemu_img.chain(top, "qcow2", record["image_directories"])  # qemu-img opens whatever a header names
            _qemu_img.commit(top, disk["path"])
            if domain is not None:
                root = _domain_xml.parse(_libvirt.inactive_xml(domain))
                _domain_edit.set_disk_source(root, disk["target"], disk["path"], disk["format"])
                domain = _libvirt.define(conn, _domain_edit.to_string(root))
    # Without a definition only the journal knows that an older layer must not be merged over a newer one that is gone already.
    record = journal.update(record, folded=True)
    remove_layers(record)
    return record


def remove_layers(record: dict[str, Any]) -> None:
    """Delete the files of all layers."""
    for disk in writable(record):
        for path in layers(record, disk):
            with _names.if_there():
                os.unlink(path)


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


def _path_of(domain: Any, target: str) -> str | None:
    root = _domain_xml.parse(_libvirt.inactive_xml(domain, secure=False))
    return next((disk.path for disk in _domain_xml.disks(root) if disk.target == target), None)
