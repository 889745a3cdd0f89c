# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Who on this host refers to a fetched base image: guests, records of open operations, channels, and every file in the image directories.

Whatever mentions an image counts as a use, even where it could not be one: a guest may write what it likes into the header of its disk, and gains
nothing by that but an image which stays.
"""

from __future__ import annotations

import contextlib
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any

from .._domain import definition as _definition
from .._journal.records import CLOSED, Journal
from .._journal.state_dir import StateDir
from .._libvirt import domain_documents as _domain_documents
from .._rules.errors import KvmfleetError
from .image_header import below, named_files, strings, walk
from .kinds import registry as _kinds

_SHA256 = 64


class Uses:
    """Collects the uses of some images.

    :param images: real paths of images whose file names begin with their SHA-256; :param sha256s: of images that other hosts have.
    """

    def __init__(self, images: Iterable[str], sha256s: Iterable[str] = ()) -> None:
        self.found: dict[str, set[str]] = defaultdict(set)
        self.of_contents: dict[str, dict[str, set[tuple[int, float]]]] = {sha256: defaultdict(set) for sha256 in sha256s}
        """SHA-256 -> who uses an image with it -> length and time of each file with it that he is known to use."""
        self.unreadable: dict[str, str] = {}
        self._paths = set(images)
        self._by_sha256 = {os.path.basename(path)[:_SHA256]: path for path in self._paths}

    def of_host(self, connection: Any, state: StateDir, directories: Iterable[str]) -> None:
        """Look everywhere. The journal is read before and after the domains, since an operation takes a guest from one to the other."""
        self._of_journal(state)
        for domain, documents in _domain_documents.documents(connection):
            for document in documents:
                self._of_document(connection, document.xml, f"guest {domain.name()}")
        self._of_journal(state)
        self._of_channels(state)
        for path in _files(directories):
            self._follow(path, f"file {_printable(path)}")

    def mention(self, text: str, by: str) -> None:
        """A text that has the SHA-256 of an image in it, or is the path of one."""
        for sha256, path in self._by_sha256.items():
            if sha256 in text:
                self.found[path].add(by)
        real = os.path.realpath(text) if text.startswith("/") and "\0" not in text else ""
        if real in self._paths:
            self.found[real].add(by)
        for sha256, uses in self.of_contents.items():
            if sha256 in text or sha256 in real:
                files = uses[by]
                with contextlib.suppress(OSError):
                    if sha256 in os.path.basename(real):
                        status = os.stat(real)
                        files.add((status.st_size, status.st_mtime))

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

    def _of_document(self, connection: Any, text: str, by: str) -> None:
        self.mention(text, by)
        for root in _domains_in(_definition.parse_document(text)):
            for disk in _definition.disks(root):
                self._of_disk(connection, disk, by)

    def _of_disk(self, connection: Any, disk: _definition.Disk, by: str) -> None:
        kind, path = _kinds.named(disk), None
        with contextlib.suppress(KvmfleetError):
            path = kind.path(connection, disk)
        if path is not None:
            self.mention(path, by)
        if disk.format == "raw" or kind.is_empty(disk):
            return  # raw stands on nothing; a drive may be empty
        problem = self._follow(path, by) if path is not None and disk.format == "qcow2" else f"{disk.source_type} disk of format {disk.format}"
        if problem:
            self.unreadable[f"{disk.target} of {by}"] = problem

    def _follow(self, top: str, by: str) -> str | None:
        """Note the backing file of an image, its backing file, and so on; the first reason why not all of them can be known."""
        named, unreadable = walk(top, self._paths)
        for path, backing in named:
            for text in (backing, *named_files(backing), *below(path, backing)):
                self.mention(text, by)
        return next((f"{_printable(path)}: {exc.strerror or exc}" for path, exc in unreadable), None)


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
