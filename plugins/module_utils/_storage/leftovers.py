# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Leftovers: what has come of a copy whose operation was undone, so that the next one of this instance to this host sends only what is missing.

They are the one thing that an operation which failed may leave: files that nothing refers to, beside where the disks would lie, and a document in `kept/`
of the state directory that says for how long. They go when the instance is admitted here again, which takes them up, when their time is over, and when
anything else needs the room.
"""

from __future__ import annotations

import os
import time
from typing import Any

from .._journal.state_dir import StateDir
from .._system import whole_file as _whole_file
from .._system.paths import if_there
from . import directories as _directories, files as _files
from .incoming import UNCOPIED, allocated, exports, leftover_path, part_path, writable

_WORTHWHILE = 16 * 1024 * 1024  # less is fetched anew as quickly
_RESERVE = 0.05


def keep(state: StateDir, record: dict[str, Any], seconds: float) -> None:
    """Keep what has come of the disks of an operation that is being undone."""
    drop(state, record["instance_uuid"])
    if seconds <= 0 or record["step"] not in UNCOPIED:
        return
    parts = {leftover_path(record, disk["path"]): part_path(record, disk["path"]) for disk in writable(record)}
    worthwhile = {leftover: part for leftover, part in parts.items() if allocated(part) >= _WORTHWHILE}
    if not worthwhile:
        return
    now = time.time()
    document = {"instance_uuid": record["instance_uuid"], "instance_name": record["instance_name"], "files": sorted(worthwhile)}
    document["made_directories"] = record.get("made_directories") or {}
    state.write(_directories.LEFTOVERS, record["instance_uuid"], {**document, "kept_at": now, "expires_at": now + seconds})
    for leftover, part in worthwhile.items():
        _files.rename_unfinished(part, leftover)
        give_back(leftover)


def give_back(path: str) -> None:
    """Shorten a file that only saves time until the guests on its filesystem have room again; nothing is left of it where there is none at all."""
    status = os.statvfs(path)
    while status.f_bavail < _RESERVE * status.f_blocks and allocated(path):
        size = os.path.getsize(path)
        with _whole_file.part(path) as descriptor:
            os.ftruncate(descriptor, size * 3 // 4 if size >= _WORTHWHILE else 0)
        status = os.statvfs(path)


def adopt(state: StateDir, record: dict[str, Any]) -> None:
    """Let an operation that was admitted go on with the leftovers of its instance."""
    for path in exports(record).values():
        with if_there():
            _files.rename_unfinished(leftover_path(record, path), part_path(record, path))
    drop(state, record["instance_uuid"])


def drop(state: StateDir, *instance_uuids: str) -> bool:
    """Remove the leftovers of instances; False where there are none."""
    documents = [document for instance_uuid in instance_uuids if (document := state.read(_directories.LEFTOVERS, instance_uuid))]
    for document in documents:
        _files.remove_unfinished(document["files"])
        _directories.drop(state, {path: one["inode"] for path, one in document.get("made_directories", {}).items()})
        state.remove(_directories.LEFTOVERS, document["instance_uuid"])
    return bool(documents)


def expired(state: StateDir) -> list[str]:
    """UUIDs of the instances whose leftovers have been here for long enough."""
    return [document["instance_uuid"] for document in state.read_all(_directories.LEFTOVERS) if document["expires_at"] <= time.time()]


def make_room(state: StateDir, but: str | None = None) -> bool:
    """Remove all leftovers, but those of one instance; False where there are none."""
    return drop(state, *(document["instance_uuid"] for document in state.read_all(_directories.LEFTOVERS) if document["instance_uuid"] != but))


def listed(state: StateDir) -> list[dict[str, Any]]:
    """`instance_uuid`, `instance_name`, `files`, `bytes`, `kept_at` and `expires_at` of the leftovers here."""
    told = ("instance_uuid", "instance_name", "files", "kept_at", "expires_at")
    return [{**{key: one[key] for key in told}, "bytes": sum(map(allocated, one["files"]))} for one in state.read_all(_directories.LEFTOVERS)]


def bytes_on(state: StateDir, device: int) -> int:
    """Bytes of one filesystem that anything else may have."""
    paths = [path for document in state.read_all(_directories.LEFTOVERS) for path in document["files"] if os.path.exists(path)]
    return sum(allocated(path) for path in paths if os.stat(path).st_dev == device)
