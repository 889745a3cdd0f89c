# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Who on this host refers to a fetched base image: guests, records of open operations, channels, and every file in the image directories.

Whatever mentions an image counts as a use, even where it could not be one: a guest may write what it likes into the header of its disk, and gains
nothing by that but an image which stays. Headers are read here and not by QEMU's tools, and nothing but the header of a regular file is read because of
them.
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any

from . import _domain_xml, _libvirt, _pools
from ._errors import KvmfleetError
from ._journal import CLOSED, Journal
from ._state_dir import StateDir

_MAGIC = b"QFI\xfb"
_HEADER = 20
_MAX_NAME = 1023
_MAX_OFFSET = 2**63
_MAX_FILES = 1000
_SHA256 = 64
_DRIVERS = ("qcow2", "raw", "file", "host_device")  # what else is a text in the JSON of a local image
_NO_FILES = ("/dev/", "/proc/", "/sys/")


class Uses:
    """Collects the uses of some images.

    :param images: real paths of images whose file names begin with their SHA-256.
    """

    def __init__(self, images: Iterable[str]) -> None:
        self.found: dict[str, set[str]] = defaultdict(set)
        self.unreadable: dict[str, str] = {}
        self._paths = set(images)
        self._digests = {os.path.basename(path)[:_SHA256]: path for path in self._paths}

    def of_host(self, connection: Any, state: StateDir, directories: Iterable[str]) -> None:
        """Look everywhere. The journal is read before and after the domains, since an operation takes a guest from one to the other."""
        self._of_journal(state)
        for domain in _libvirt.all_domains(connection):
            self._of_domain(connection, domain)
        self._of_journal(state)
        self._of_channels(state)
        for path in _files(directories):
            self._follow(path, f"file {_printable(path)}")

    def mention(self, text: str, by: str) -> None:
        """A text that has the digest of an image in it, or is the path of one."""
        for digest, path in self._digests.items():
            if digest in text:
                self.found[path].add(by)
        if text.startswith("/") and "\0" not in text:
            real = os.path.realpath(text)
            if real in self._paths:
                self.found[real].add(by)

    def _of_journal(self, state: StateDir) -> None:
        for record in Journal(state).all():
            if record["status"] not in CLOSED:
                kept = "sealed copy of" if record["role"] == "source" and "private" in record else f"operation of the {record['role']} on"
                for text in strings({key: value for key, value in record.items() if key != "history"}):
                    self.mention(text, f"{kept} {record['instance_name']}")

    def _of_channels(self, state: StateDir) -> None:
        exports = os.path.join(state.path, "exports")
        for parent, _directories, names in os.walk(exports):
            for name in names:
                with contextlib.suppress(OSError):
                    self.mention(os.readlink(os.path.join(parent, name)), f"channel {os.path.relpath(parent, exports).partition('/')[0]}")

    def _of_domain(self, connection: Any, domain: Any) -> None:
        by = f"guest {domain.name()}"
        for text in _libvirt.definitions(domain):
            self.mention(text, by)
            for root in _domains_in(_domain_xml.parse_document(text)):
                for disk in _domain_xml.disks(root):
                    self._of_disk(connection, disk, by)

    def _of_disk(self, connection: Any, disk: _domain_xml.Disk, by: str) -> None:
        path = disk.path
        if path is None and disk.pool and disk.volume:
            with contextlib.suppress(KvmfleetError):
                path = _pools.volume_path(connection, disk.pool, disk.volume)
        if path is not None:
            self.mention(path, by)
        if disk.format == "raw" or (path is None and disk.source_type == "file"):
            return  # raw stands on nothing; a drive may be empty
        problem = self._follow(path, by) if path is not None and disk.format == "qcow2" else f"{disk.source_type} disk of format {disk.format}"
        if problem:
            self.unreadable[f"{disk.target} of {by}"] = problem

    def _follow(self, top: str, by: str) -> str | None:
        """Note the backing file of an image, its backing file, and so on; the first reason why not all of them can be known."""
        problem, seen, waiting = None, set(), [top]
        while waiting and len(seen) < _MAX_FILES:
            path = os.path.realpath(waiting.pop())
            if path in seen or path in self._paths:
                continue
            seen.add(path)
            try:
                backing = backing_name(path, device=path == os.path.realpath(top))
            except OSError as exc:
                problem = problem or f"{_printable(path)}: {exc.strerror or exc}"
                continue
            for text in [] if backing is None else [backing, *_named_files(backing)]:
                self.mention(text, by)
            for name in [] if backing is None else _named_files(backing):
                below = os.path.join(os.path.dirname(path), name)
                self.mention(below, by)
                waiting.append(below)
        return problem if not waiting else f"more than {_MAX_FILES} layers"


def backing_name(path: str, device: bool = False) -> str | None:
    """The name of the backing file in the header of a qcow2 image; None for any other file.

    :param device: it may be a block device too. What only a header names may not: opening some devices does something.
    """
    kind = os.stat(path).st_mode
    if path.startswith(_NO_FILES) and not (device and stat.S_ISBLK(kind)):
        raise OSError("not a file on a disk")
    if not stat.S_ISREG(kind) and not stat.S_ISBLK(kind):
        raise OSError("not a regular file")
    with open(path, "rb", buffering=0) as stream:
        header = os.pread(stream.fileno(), _HEADER, 0)
        if header[:4] != _MAGIC:
            return None
        offset, length = int.from_bytes(header[8:16], "big"), int.from_bytes(header[16:20], "big")
        if not offset or not length:
            return None
        if offset >= _MAX_OFFSET:
            raise OSError("its header names a place beyond any file")
        return os.fsdecode(os.pread(stream.fileno(), min(length, _MAX_NAME), offset))


def _named_files(backing: str) -> list[str]:
    """The files that the name of a backing file may mean; none of this host's if it is neither a path nor JSON with paths."""
    if "\0" in backing:
        return []
    if backing.startswith("json:"):
        try:
            texts = strings(json.loads(backing[len("json:") :]))
            return [name for text in texts if not (text.startswith("json:") or text in _DRIVERS) for name in _named_files(text)]
        except (ValueError, RecursionError):
            return []
    if backing.startswith("file:"):
        return [backing[len("file:") :]]
    return [backing] if ":" not in backing.partition("/")[0] else []


def strings(value: Any) -> Iterator[str]:
    """All texts in a document, wherever they are."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, (dict, list)):
        for item in value.values() if isinstance(value, dict) else value:
            yield from strings(item)


def _domains_in(root: Any) -> Iterator[Any]:
    """The definition itself, or those that a snapshot keeps."""
    if root.tag == "domain":
        yield root
    else:
        yield from (element for name in ("domain", "inactiveDomain") for element in root.findall(name))


def _files(directories: Iterable[str]) -> Iterator[str]:
    for directory in dict.fromkeys(map(os.path.realpath, directories)):
        for parent, _directories, names in os.walk(directory):
            for path in (os.path.join(parent, name) for name in names):
                if not os.path.islink(path):
                    yield path


def _printable(path: str) -> str:
    return os.fsencode(path).decode(errors="replace")
