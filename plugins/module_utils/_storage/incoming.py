# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The files of an operation on their way to this host, and whether the disks here have room for them.

Room is counted in real bytes, as opposed to what flavors promise: what is free, less what other open operations have yet to write.
"""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Iterable
from typing import Any, NamedTuple

from .._journal.records import CLOSED, Journal
from .._rules import file_names as _file_names
from .._system import paths as _paths, whole_file as _whole_file
from .kinds import registry as _kinds

NVRAM = "nvram"
"""The name of firmware variables in the channel."""
UNCOPIED = ("admitted", "precopying", "receiving", "publishing")


class Shortage(NamedTuple):
    """A filesystem, named by a directory on it, without room: bytes needed, free, and promised to other open operations."""

    directory: str
    need: int
    free: int
    promised: int

    def __str__(self) -> str:
        others = f", {self.promised} of them promised to other open operations" if self.promised else ""
        return f"{self.directory} has {self.free} bytes free{others}; {self.need} are needed"

    def numbers(self) -> dict[str, Any]:
        """`need` and `have`, for whoever reads the error by program."""
        return {"path": self.directory, "need": self.need, "have": max(0, self.free - self.promised)}


def exports(record: dict[str, Any]) -> dict[str, str]:
    """Name in the channel -> path on this host of every file that travels."""
    files = {disk["target"]: disk["path"] for disk in travelling(record)}
    if record["nvram"]:
        files[NVRAM] = record["nvram"]
    return files


def travelling(record: dict[str, Any]) -> list[dict[str, Any]]:
    """The disks that are copied: neither such that are at the destination already, nor such that the guest leaves behind."""
    return [disk for disk in record["disks"] if _kinds.of(disk).travels and not disk.get("left_behind")]


def writable(record: dict[str, Any]) -> list[dict[str, Any]]:
    """The disks that the guest writes to and that travel."""
    return [disk for disk in travelling(record) if disk["kind"] == "disk"]


def all_files(record: dict[str, Any]) -> list[dict[str, Any]]:
    """The disks of the guest, and those that the operation adds to it."""
    return [*record["disks"], *record.get("new_disks", ())]


def part_path(record: dict[str, Any], path: str) -> str:
    """Where a file lies until it is complete and proven."""
    return _file_names.beside(path, _file_names.PART, record)


def layer_part_path(record: dict[str, Any], path: str) -> str:
    """Where a layer of a disk lies until it is merged into what came before."""
    return _file_names.beside(path, _file_names.LAYER_PART, record)


def leftover_path(record: dict[str, Any], path: str) -> str:
    """Where what has come of a file waits for the next operation of its instance."""
    return _file_names.beside(path, _file_names.LEFTOVER, record)


def publish(journal: Journal, record: dict[str, Any], paths: Iterable[str], step: str | None = None) -> dict[str, Any]:
    """Give complete files their names; what already bears the name is never replaced, and what is ours is known by its inode.

    :returns: the record, with the `inodes`.
    :raises KvmfleetError: `path_taken`.
    """
    looks = {path: _whole_file.Look(*look) for path, look in record.get("looks", {}).items()}
    inodes = {path: _whole_file.complete(part_path(record, path), looks.get(path, _whole_file.PRIVATE)).st_ino for path in paths}
    record = journal.update(record, step=step, inodes={**record.get("inodes", {}), **inodes})
    for path in inodes:
        _whole_file.publish(part_path(record, path), path)
    return record


def incoming_path(record: dict[str, Any], name: str) -> str:
    """Where the file of that name is copied to: a disk of which earlier rounds are here comes as a layer over them."""
    layered = record.get("rounds") and name in {disk["target"] for disk in writable(record)}
    return (layer_part_path if layered else part_path)(record, exports(record)[name])


def shortages(journal: Journal, record: dict[str, Any], sizes: dict[str, int] | None = None) -> list[Shortage]:
    """The filesystems that have no room for the files of the record.

    :param sizes: bytes of data by name in the channel, where the source has told them; else what the plan says of the disks.
    """
    promised = _promised(journal, but=record["uuid"])
    found = [Shortage(directory, need, _free(directory), promised[device]) for device, (directory, need) in _unwritten(record, sizes).items()]
    return [shortage for shortage in found if shortage.need > shortage.free - shortage.promised]


def shortage_for(journal: Journal, directory: str, need: int) -> Shortage | None:
    """Whether `need` bytes more do not fit into the directory beside what all open operations have yet to write."""
    shortage = Shortage(directory, need, _free(directory), _promised(journal)[os.stat(directory).st_dev])
    return shortage if need > shortage.free - shortage.promised else None


def _promised(journal: Journal, but: str | None = None) -> Counter[int]:
    """Device of a filesystem -> bytes that open operations have yet to write there."""
    promised: Counter[int] = Counter()
    for record in journal.all():
        if record["role"] == "destination" and record["uuid"] != but and record["status"] not in CLOSED and record["step"] in UNCOPIED:
            promised.update({device: need for device, (_directory, need) in _unwritten(record, None).items()})
    return promised


def _unwritten(record: dict[str, Any], sizes: dict[str, int] | None) -> dict[int, tuple[str, int]]:
    """Device of a filesystem -> a directory on it, and the bytes that are still to be written there or below."""
    planned = {disk["target"]: disk["allocated_bytes"] for disk in record["disks"]}
    found: dict[int, tuple[str, int]] = {}
    for name, path in exports(record).items():
        directory = _paths.standing(os.path.dirname(path))
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            device = os.stat(directory).st_dev
            # A layer is merged into what is there before it is removed.
            merged = sizes.get(name, 0) if sizes is not None and incoming_path(record, name) != part_path(record, path) else 0
            need = merged + max(0, (planned if sizes is None else sizes).get(name, 0) - _here(record, name))
            first, so_far = found.get(device, (directory, 0))
            found[device] = (first, so_far + need)
    return found


def _here(record: dict[str, Any], name: str) -> int:
    return allocated(incoming_path(record, name)) or allocated(leftover_path(record, exports(record)[name]))


def allocated(path: str) -> int:
    with _paths.if_there():
        return os.stat(path).st_blocks * 512
    return 0


def _free(directory: str) -> int:
    status = os.statvfs(directory)
    return status.f_bavail * status.f_frsize
