# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Who on this host uses a file: asked before any file that belongs to a guest is renamed, replaced, written into by somebody else, or removed.

A use is whatever names the file or stands on it: what runs, what is defined, what is saved, snapshots and checkpoints, backups and other block jobs, open
operations of other guests, and processes that hold QEMU's lock on it. In doubt it is a use. Image files that nothing of all this names are none.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from .._domain import definition as _definition
from .._journal.records import CLOSED
from .._journal.state_dir import StateDir
from .._libvirt import domain_documents as _domain_documents, storage as _storage
from .._rules.errors import KvmfleetError
from . import pools as _pools
from .image_header import below, strings, walk
from .kinds import registry as _kinds

DETACH = "Detach it there (virsh detach-disk), or let what stands on it go or stand for itself (virsh blockpull), and repeat."
_MISSING = (errno.ENOENT, errno.ENOTDIR, errno.ENXIO)
_LOCKS = (100, 200)  # where QEMU locks a byte for each thing that it does with an image, or suffers others to do; as many bytes
_FLOCK = "hhqqi0q"
_LOCK_WAIT = 2.0  # a tool that only looks at an image holds the lock for less


@dataclass(frozen=True)
class Use:
    """One use of a file.

    :param kind: as of `_libvirt.domain_documents.Document`, or `operation`, `process`, `unknown` (it cannot be found out what the guest stands on).
    :param who: for a sentence; :param guest: UUID of the domain or instance; :param operation: UUID of the operation.
    """

    kind: str
    who: str
    guest: str | None = None
    operation: str | None = None


class DiskUses:
    """Looks at the host anew for each question. What a document says is read once, however often the same document comes, and a closed record too."""

    def __init__(self, connection: Any, state: StateDir) -> None:
        self._connection = connection
        self._state = state
        self._said: dict[str, _Said] = {}
        self._closed: set[str] = set()

    def require_unused(
        self, paths: Iterable[str], *, operation: str | None = None, guest: str | None = None, code: str = "disk_in_use_by", advice: str = DETACH
    ) -> None:
        """Nobody uses any of the files.

        :param operation: UUID of the operation that asks, which may; :param guest: UUID of the guest that may, its snapshots and its operation included.
        :raises KvmfleetError: the `code`, naming who does; `image_in_use` where only processes do.
        """
        used = self.of(paths, operation=operation, guest=guest)
        if used:
            only_processes = all(use.kind == "process" for uses in used.values() for use in uses)
            names = "; ".join(f"{path} is used by {', '.join(dict.fromkeys(use.who for use in uses))}" for path, uses in used.items())
            raise KvmfleetError(
                "image_in_use" if only_processes else code,
                f"{names}. Nothing was done to it. {'End that, and repeat.' if only_processes else advice}",
                paths=list(used),
                used_by=sorted({use.who for uses in used.values() for use in uses}),
            )

    def of(self, paths: Iterable[str], *, operation: str | None = None, guest: str | None = None, processes: bool | None = None) -> dict[str, list[Use]]:
        """The uses of each of the files that has any; a file need not exist to be needed. The parameters are those of `require_unused`.

        :param processes: whether processes count, which they do by default unless a guest may use the files.
        """
        paths = list(dict.fromkeys(paths))
        if not paths:
            return {}
        wanted: dict[Any, set[str]] = {}
        for path in paths:
            for key in _keys(path):
                wanted.setdefault(key, set()).add(path)
        found: dict[str, list[Use]] = {path: [] for path in paths}
        for named, use in self._read():
            if (operation is None or use.operation != operation) and (guest is None or use.guest != guest):
                if use.kind == "unknown":
                    meant = {path for path in paths if _may_stand_on(named, path)}
                else:
                    meant = {path for key in _keys(named) for path in wanted.get(key, ())}
                for path in meant:
                    found[path].append(use)
        for path in paths if (guest is None if processes is None else processes) else ():
            if _is_locked(path):
                found[path].append(Use("process", "a process that has it open as an image (see lsof)"))
        return {path: list(dict.fromkeys(uses)) for path, uses in found.items() if uses}

    def within(self, directories: Iterable[str], *, operation: str) -> set[str]:
        """Those of the directories in which anything but the operation names a file, whether that exists or not: what is below needs what is above."""
        real = {directory: os.path.realpath(directory) for directory in directories}
        if not real:
            return set()
        named = {path for path, use in self._read() if use.operation != operation}
        named.update(found["path"] for pool in _storage.all_pools(self._connection) if (found := _pools.facts(pool))["path"])
        places = {os.path.realpath(path) + os.sep for path in named}
        return {directory for directory, place in real.items() if any(path.startswith(place + os.sep) for path in places)}

    def _read(self) -> Iterator[tuple[str, Use]]:
        """Every file that is named, and who names it, and every file that cannot be read, and who stands on it.

        The journal is read before and after the domains, since an operation takes a guest from one to the other.
        """
        yield from self._of_journal()
        for domain, documents in _domain_documents.documents(self._connection):
            runs = any(document.kind == "runs" for document in documents)
            for document in documents:
                yield from self._of_document(document, domain.name(), domain.UUIDString(), runs)
        yield from self._of_journal()

    def _of_document(self, document: _domain_documents.Document, name: str, uuid: str, runs: bool) -> Iterator[tuple[str, Use]]:
        what = f"guest {name}" if document.name is None else f"{document.kind} {document.name} of guest {name}"
        said = self._read_once(document.xml)
        for path, how in said.named:
            yield path, Use(document.kind, f"{what} ({how})", uuid)
        for disk in said.disks:
            top = _kinds.named(disk).path_if_known(self._connection, disk)
            if top is None:
                continue
            yield top, Use(document.kind, f"{what} (disk {disk.target})", uuid)
            named, unreadable = walk(top) if disk.format == "qcow2" else ([], [])  # raw stands on nothing
            for path, backing in named:
                for lower in below(path, backing):
                    yield lower, Use(document.kind, f"{what} (below disk {disk.target})", uuid)
            for path, exc in unreadable:
                # What runs tells its chain itself, and what is not there stands on nothing.
                if exc.errno not in _MISSING and not runs:
                    yield path, Use("unknown", f"perhaps {what} (disk {disk.target}: {path} cannot be read, {exc.strerror or exc})", uuid)

    def _of_journal(self) -> Iterator[tuple[str, Use]]:
        for name in self._state.names("migrations"):
            record = None if name in self._closed else self._state.read("migrations", name)
            if record is not None and record["status"] in CLOSED:
                self._closed.add(name)  # and no such record is ever opened again
            elif record is not None:
                use = Use("operation", f"the open operation {record['uuid']} on {record['instance_name']}", record["instance_uuid"], record["uuid"])
                yield from ((path, use) for path in _of_record(record))
                # A destination is handed a definition with the paths of the source, until it has one of its own.
                for text in strings(record.get("private", {})) if record["role"] != "destination" else ():
                    if text.startswith("<"):
                        yield from ((path, use) for path, _how in self._read_once(text).named)

    def _read_once(self, text: str) -> _Said:
        if text not in self._said:
            self._said[text] = _Said(text)
        return self._said[text]


class _Said:
    """What a document says by itself.

    :ivar named: paths in it, and as what; :ivar disks: its disks, those of all definitions in it.
    """

    def __init__(self, text: str) -> None:
        root = _definition.parse_document(text)
        places = {}
        for disk in root.iter("disk"):
            target = disk.find("target")
            name = disk.get("name") or (None if target is None else target.get("dev")) or "?"
            places.update({id(element): f"disk {name}" for element in disk.iter()})
            places.update({id(element): f"below disk {name}" for store in disk.findall("backingStore") for element in store.iter()})
            places.update({id(element): f"block job on disk {name}" for mirror in disk.findall("mirror") for element in mirror.iter()})
        self.named = [
            (text, places.get(id(element), str(element.tag)))
            for element in root.iter()
            if isinstance(element.tag, str)
            for text in (*element.attrib.values(), (element.text or "").strip())
            if text.startswith("/") and "\0" not in text
        ]
        roots = [root] if root.tag == "domain" else [element for name in ("domain", "inactiveDomain") for element in root.findall(name)]
        self.disks = [disk for definition in roots for disk in _definition.disks(definition)]


def place(connection: Any, xml: str, target: str) -> str | None:
    """The file that a disk is in by a definition, that of a volume too; None where it has no such disk, or that is in no file."""
    disk = next((disk for disk in _definition.disks(_definition.parse(xml)) if disk.target == target), None)
    return None if disk is None else _kinds.named(disk).path_if_known(connection, disk)


def _of_record(record: dict[str, Any]) -> Iterator[str]:
    """The files on this host that an operation needs; at a destination, the chain of a disk is that of the source."""
    for disk in (*record.get("disks", ()), *record.get("new_disks", ())):
        yield disk["path"]
        if record["role"] != "destination":
            yield from (layer[0] for layer in disk.get("chain", ()))
    if record.get("nvram"):
        yield record["nvram"]
    yield from (log["path"] for log in record.get("console_logs") or ())
    yield from record.get("inodes", ())


def _may_stand_on(unreadable: str, path: str) -> bool:
    """Whether what cannot be read is on the same filesystem: root may read nothing on some network filesystems, and that keeps no guest that lies elsewhere."""
    try:
        return os.stat(os.path.dirname(unreadable)).st_dev == os.stat(os.path.dirname(path)).st_dev
    except OSError:
        return True


def _keys(path: str) -> Iterator[Any]:
    """By what a file is known: its real path, and while it exists its inode, whatever links and mounts lead there."""
    yield os.path.realpath(path)
    try:
        status = os.stat(path)
    except OSError:
        return
    yield status.st_dev, status.st_ino


def _is_locked(path: str) -> bool:
    """Whether a process holds one of QEMU's locks on an image, for reading too, and does not let go of it at once."""
    deadline = time.monotonic() + _LOCK_WAIT
    while _holds_lock(path):
        if time.monotonic() >= deadline:
            return True
        time.sleep(0.1)
    return False


def _holds_lock(path: str) -> bool:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False  # there is nothing, or nothing that QEMU opens
    try:
        asked = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, *_LOCKS, 0)
        return struct.unpack(_FLOCK, fcntl.fcntl(descriptor, fcntl.F_OFD_GETLK, asked))[0] != fcntl.F_UNLCK
    finally:
        os.close(descriptor)
