# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The directories of guests below those that a host has for guests: made for one that comes, removed when they are left empty.

What a host has for guests (its directories for images, libvirt's own) is for whoever set it up, and is neither made nor removed here. Below that many tools
give each guest a directory. Which of them the operation makes is in its record before they exist, and which ones they are, by their inodes, before they get
their names. At the source those are removed by confirm in which nothing but the guest lay when the operation began, and those that an operation has made.

A directory goes only while it is empty, and while nothing else names a file in it: neither a definition nor a storage pool nor another open operation.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from .._journal import claims as _claims
from .._journal.records import CLOSED, Journal
from .._journal.state_dir import StateDir
from .._libvirt import binding as _binding
from .._rules.errors import KvmfleetError
from .._system import paths as _paths, whole_file as _whole_file
from . import files as _files, places as _places, qemu_user as _qemu_user
from .disk_use import DiskUses
from .incoming import all_files, part_path
from .kinds import registry as _kinds

_PLAIN = 0o711
"""Mode of a directory of which the source tells nothing: as that of libvirt's own directory of images."""
_MODES = 0o3777
LEFTOVERS = "kept"
"""Where the documents of leftovers are in a state directory (`_storage.leftovers`)."""
_LOCK_TIMEOUT = 5.0  # seconds; claims hold the lock for a moment each


def facts(process: _qemu_user.Process, files: Iterable[tuple[str, Sequence[str]]]) -> dict[str, dict[str, Any]]:
    """To whom the directories of a guest belong, by their paths.

    :param process: its QEMU; :param files: each file of the guest, and the directories that its host has for such.
    """
    found = {}
    for path, allowed in files:
        for directory in between(path, allowed):
            status = _there(directory)
            if status is not None:
                found[directory] = {
                    "uid": status.st_uid,
                    "gid": status.st_gid,
                    "user": _qemu_user.user_name(status.st_uid),
                    "group": _qemu_user.group_name(status.st_gid),
                    "mode": stat.S_IMODE(status.st_mode),
                    "of_qemu": [status.st_uid == process.uid, status.st_gid == process.gid],
                }
    return found


def between(path: str, allowed: Sequence[str]) -> list[str]:
    """The directories from one of those that the host has for such files down to the file, the outermost first; that one itself is none of them."""
    root, found = _root(path, allowed), []
    directory = os.path.dirname(os.path.normpath(path))
    while root is not None and len(directory) > len(root):
        found.insert(0, directory)
        directory = os.path.dirname(directory)
    return found


def called_here(directories: Mapping[str, Any], files: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """What the source tells of its directories, by what they are called here: each is the one as far above a file as at the source.

    :param files: path here and path at the source of each file of the guest.
    """
    found = {}
    for pair in files:
        here, there = (os.path.dirname(os.path.normpath(path)) for path in pair)
        while there in directories:
            found[here] = directories[there]
            if os.path.basename(here) != os.path.basename(there):
                break
            here, there = os.path.dirname(here), os.path.dirname(there)
    return found


def reasons(record: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Code and sentence of what keeps this host from having the directories of the record."""
    yield from sorted({reason for disk in all_files(dict(record)) for reason in _kinds.of(disk).lacking(disk)})
    roots = {_root(path, allowed) for path, allowed in _files_of(record)}
    for root in sorted(filter(None, roots)):
        if not os.path.isdir(root):
            yield (
                "directory_missing",
                f"the directory {root} does not exist here, and what this host has for guests is not made without being asked for: make it there "
                "(kvmfleet.compute.prepare_host does)",
            )
    for path in sorted({directory for file, allowed in _files_of(record) for directory in between(file, allowed)}):
        if os.path.lexists(path) and not os.path.isdir(path):
            yield "path_taken", f"{path} exists here already and is no directory"


def to_make(conn: Any, state: StateDir, record: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The directories that the operation is to make on this host, by their paths: the `look` of each, and the `inode`, which is None until it exists.

    Those count that another operation has made which is not settled yet: whoever is undone last removes them.
    """
    process, known = _qemu_user.of_host(conn), _made_by_others(state, record["uuid"])
    found = {}
    for path, allowed in _files_of(record):
        for directory in between(path, allowed):
            if not os.path.lexists(directory):
                found[directory] = {"inode": None, "look": list(_look(process, (record.get("directories") or {}).get(directory)))}
            elif directory in known and _is(directory, known[directory]["inode"]):
                found[directory] = known[directory]
    return found


def outermost(directories: Iterable[str]) -> list[str]:
    """Those that lie in none of the others."""
    found = set(directories)
    return sorted(path for path in found if os.path.dirname(path) not in found)


def make(journal: Journal, record: dict[str, Any]) -> dict[str, Any]:
    """Make those of the record that are not there (any more).

    :returns: the record, which knows what was made; what somebody else has made meanwhile is none of it.
    :raises KvmfleetError: `path_taken`, `image_is_symlink` and what else `_storage.places.require_here` raises.
    """
    made = record.get("made_directories") or {}
    kept = {path: one for path, one in made.items() if not os.path.lexists(path) or _is(path, one["inode"])}
    missing = sorted(path for path in kept if not os.path.lexists(path))
    if missing:
        _places.require_here(record)
    for top in outermost(missing):
        below = _below(top, missing)
        part = part_path(record, top)
        _remove_part(part, below)
        inodes = _whole_file.make_directories(part, {name: _whole_file.Look(*kept[path]["look"]) for name, path in below.items()})
        kept.update({path: {**kept[path], "inode": inodes[name]} for name, path in below.items()})
        record = journal.update(record, made_directories=kept)
        try:
            _files.name_unfinished(part, top)
        except FileExistsError as exc:
            raise KvmfleetError("path_taken", f"{top} was made by somebody else just now.", path=top) from exc
    return record if kept == made or missing else journal.update(record, made_directories=kept)


def own(state: StateDir, record: Mapping[str, Any]) -> dict[str, int]:
    """The directories on the way to what confirm removes that are the guest's, by their inodes: its files lie there and nothing else, or we made them."""
    files = dict(_files_of(record))
    made = _made_by_others(state, record["uuid"], closed=True)
    guests = {os.path.normpath(path) for path in (*files, *(layer[0] for disk in record["disks"] for layer in disk["chain"]))}
    found: dict[str, int] = {}
    removed = {*(disk["path"] for disk in record["disks"] if disk["kind"] == "disk"), record.get("nvram")}  # logs and media stay
    candidates = {directory for path, allowed in files.items() if path in removed for directory in between(path, allowed)}
    for directory in sorted(candidates, key=len, reverse=True):
        status, is_made = _there(directory), directory in made and _is(directory, made[directory]["inode"])
        if status is not None and (is_made or _holds_only(directory, guests, found)):
            found[directory] = status.st_ino
    return found


def remove(uses: DiskUses, journal: Journal, record: Mapping[str, Any], inodes: Mapping[str, int | None]) -> list[str]:
    """Remove those of the directories that are empty and that nothing else needs, and what an interrupted `make` has left; those that are left."""
    known = {path: inode for path, inode in inodes.items() if inode is not None}
    with contextlib.suppress(KvmfleetError, _binding.LibvirtError, OSError):  # a guest may be off until this has ended: no directory keeps it so
        if known:
            with journal.state.lock(_claims.LOCK, _LOCK_TIMEOUT):
                _files.remove_directories(uses, known, operation=record["uuid"])
        for top in outermost(inodes):
            _remove_part(part_path(dict(record), top), _below(top, inodes))
    return [path for path, inode in known.items() if _is(path, inode)]


def remove_made(uses: DiskUses, journal: Journal, record: dict[str, Any]) -> None:
    """Remove what the operation has made; what is left stays in its record, for whoever removes the last file of it."""
    made = record.get("made_directories") or {}
    if made:
        left = remove(uses, journal, record, {path: one["inode"] for path, one in made.items()})
        record["made_directories"] = {path: made[path] for path in left}


def drop(state: StateDir, inodes: Mapping[str, int | None]) -> None:
    """Remove empty directories of an operation that ended, unless an open one has files that are to lie there."""
    needed = {directory for record in Journal(state).all() if record["status"] not in CLOSED for directory in needed_by(record)}
    _files.remove_empty({path: inode for path, inode in inodes.items() if inode is not None and path not in needed})


def needed_by(record: Mapping[str, Any]) -> set[str]:
    """All directories that lead to a file of the record."""
    paths = [disk["path"] for disk in all_files(dict(record))] + [log["path"] for log in record.get("console_logs") or ()]
    found = set()
    for path in [*paths, *([record["nvram"]] if record.get("nvram") else [])]:
        while (path := os.path.dirname(path)) not in ("/", ""):
            found.add(path)
    return found


def described(made: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """For people: each that is to be made, with owner and mode."""
    return [_described(path, _whole_file.Look(*one["look"])) for path, one in sorted(made.items()) if one["inode"] is None]


def _described(path: str, look: _whole_file.Look) -> str:
    owner = "root" if look.uid < 0 else _qemu_user.described(look.uid, look.gid)
    return f"{path} ({owner}, {look.mode:04o})"


def _files_of(record: Mapping[str, Any]) -> Iterator[tuple[str, Sequence[str]]]:
    """The files of the record that lie in directories which are nobody else's matter: those of pools are libvirt's, and on shared storage all is there."""
    elsewhere = {disk["path"] for disk in all_files(dict(record)) if not _kinds.of(disk).makes_directories}
    return ((path, allowed) for path, allowed in _places.files(record) if path not in elsewhere)


def _root(path: str, allowed: Sequence[str]) -> str | None:
    """The innermost of the directories in which a path lies, as the path calls it."""
    lexical = os.path.normpath(path)
    prefixes = {prefix for directory in allowed for prefix in (os.path.normpath(directory), os.path.realpath(directory))}
    return max((prefix for prefix in prefixes if lexical.startswith(prefix.rstrip("/") + "/")), key=len, default=None)


def _look(process: _qemu_user.Process, owner: Mapping[str, Any] | None) -> _whole_file.Look:
    """Owner and mode here of a directory at the source: what is QEMU's there is QEMU's here, and whoever is not root gives nothing away."""
    if owner is None:
        return _whole_file.Look(-1, -1, _PLAIN)
    mode = owner["mode"] & _MODES
    if os.geteuid():
        return _whole_file.Look(-1, -1, mode)
    uid, gid = _qemu_user.numbers(process, owner, owner["of_qemu"])
    return _whole_file.Look(uid, gid, mode)


def _made_by_others(state: StateDir, uuid: str, closed: bool = False) -> dict[str, dict[str, Any]]:
    """What other operations have made here that are not settled, and those of which there are leftovers; with `closed`, all of them."""
    records = [record for record in Journal(state).all() if record["uuid"] != uuid and (closed or record["status"] not in CLOSED)]
    return {path: one for document in (*records, *state.read_all(LEFTOVERS)) for path, one in (document.get("made_directories") or {}).items() if one["inode"]}


def _there(directory: str) -> os.stat_result | None:
    with _paths.if_there():
        status = os.lstat(directory)
        return status if stat.S_ISDIR(status.st_mode) else None
    return None


def _is(directory: str, inode: int | None) -> bool:
    status = _there(directory)
    return status is not None and status.st_ino == inode


def _holds_only(directory: str, files: Iterable[str], directories: Mapping[str, int]) -> bool:
    """Whether a file of the guest lies right there, and nothing but such and directories that are the guest's."""
    try:
        inside = {os.path.join(directory, name) for name in os.listdir(directory)}
    except OSError:  # root may look into it only where its names are known (NFS), and what cannot be seen is not known to be the guest's
        return False
    return bool(inside & set(files)) and inside <= {*files, *directories}


def _below(top: str, directories: Iterable[str]) -> dict[str, str]:
    """Those that are `top` or lie in it, by their names from there."""
    return {os.path.relpath(path, top): path for path in directories if path == top or path.startswith(top + "/")}


def _remove_part(part: str, below: Iterable[str]) -> None:
    """What a `make` that died has left under the name that only the operation knows; nothing but directories can be in it."""
    paths = [os.path.normpath(os.path.join(part, name)) for name in below]
    _files.remove_empty({path: status.st_ino for path in paths if (status := _there(path)) is not None})
