# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The files of the disks that an operation adds to a guest: made and formatted while it still runs, removed when the operation is undone.

They are known by the record before they exist: under names that bear the UUID of the operation, and then by their inodes.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Mapping
from typing import Any

from .._journal.records import Journal
from .._rules import file_names as _file_names
from .._rules.errors import KvmfleetError
from .._system import paths as _paths, processes as _processes, whole_file as _whole_file
from . import files as _files, qemu_img as _qemu_img
from .disk_use import DiskUses
from .incoming import part_path, publish

FORMATTERS = {"ephemeral": "mke2fs", "swap": "mkswap"}
"""The program that formats a disk, by what the disk is for."""

_EPHEMERAL_LABEL = "ephemeral0"
_SYSTEM_DIRECTORIES = "/usr/local/sbin:/usr/sbin:/sbin"


def missing_tools(record: Mapping[str, Any]) -> list[str]:
    """The programs that this host lacks to make the files of the record."""
    return sorted({tool for disk in record.get("new_disks", ()) if not _installed(tool := FORMATTERS[disk["role"]])})


def make(journal: Journal, record: dict[str, Any]) -> dict[str, Any]:
    """Make and format the files of the disks that the operation adds.

    :returns: the record.
    :raises KvmfleetError: `format_failed`, `path_taken`, `qemu_img_failed`.
    """
    disks = record.get("new_disks", ())
    for disk in disks:
        raw = _raw_path(record, disk)
        with _whole_file.make(raw) as stream:
            stream.truncate(disk["size"])
        _run(*_formatting(record, disk, raw))
        _qemu_img.convert_raw(raw, part_path(record, disk["path"]), disk["format"])
        _files.remove_unfinished([raw])
    return publish(journal, record, [disk["path"] for disk in disks]) if disks else record


def made(record: Mapping[str, Any]) -> list[str]:
    """What `make` has made; a file that has got the name of one since is none of it."""
    found = []
    for disk in record.get("new_disks", ()):
        with _paths.if_there():
            if os.lstat(disk["path"]).st_ino == record.get("inodes", {}).get(disk["path"]):
                found.append(disk["path"])
    return found


def remove(uses: DiskUses, record: Mapping[str, Any]) -> None:
    """Remove what `make` has made, or had begun to make.

    :raises KvmfleetError: `disk_in_use_by`.
    """
    _files.remove(uses, made(record), operation=record["uuid"])
    _files.remove_unfinished(path for disk in record.get("new_disks", ()) for path in (_raw_path(record, disk), part_path(record, disk["path"])))


def _raw_path(record: Mapping[str, Any], disk: Mapping[str, Any]) -> str:
    """What is formatted, which takes no more room than the format itself; the image is made of it."""
    return _file_names.beside(disk["path"], _file_names.RAW_PART, record)


def _formatting(record: Mapping[str, Any], disk: Mapping[str, Any], path: str) -> list[str]:
    """The command for it. Made anew for the same guest, it has the same UUID: a guest may mount by it."""
    identity = str(uuid.uuid5(uuid.UUID(record["instance_uuid"]), disk["role"]))
    if disk["role"] == "swap":
        return ["mkswap", "-U", identity, "--", path]
    # The guest writes the tables of a large filesystem by and by; all that is not written stays a hole.
    options = "nodiscard,lazy_itable_init=1,lazy_journal_init=1"
    return ["mke2fs", "-q", "-F", "-t", "ext4", "-E", options, "-L", _EPHEMERAL_LABEL, "-U", identity, "--", path]


def _installed(tool: str) -> bool:
    return any(os.access(os.path.join(directory, tool), os.X_OK) for directory in _path().split(os.pathsep))


def _path() -> str:
    """A user who becomes root may have kept a PATH without these directories."""
    return os.pathsep.join(filter(None, (os.environ.get("PATH"), _SYSTEM_DIRECTORIES)))


def _run(*command: str) -> None:
    environment = {**os.environ, "LC_ALL": "C", "PATH": _path()}
    try:
        done = _processes.run(command, env=environment)
    except FileNotFoundError as exc:
        raise KvmfleetError("tool_missing", f"{command[0]} is not installed here.", tool=command[0]) from exc
    if done.returncode:
        said = done.stderr.strip().splitlines()
        raise KvmfleetError("format_failed", f"{' '.join(command)} failed: {said[-1] if said else f'exit status {done.returncode}'}")
