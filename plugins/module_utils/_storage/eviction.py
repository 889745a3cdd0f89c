# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The base images that were fetched to this host: which there are, who uses them, and which may go."""

from __future__ import annotations

import contextlib
import os
import re
import stat
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from .._journal.records import Journal
from .._journal.state_dir import StateDir, sync_directory
from .._rules.errors import KvmfleetError
from .._system.paths import if_there
from . import identity as _identity, qemu_img as _qemu_img
from .image_header import strings
from .store import PART_SUFFIX, STORE, lock_name
from .use import Uses

BUSY = "a fetch or a look that runs now"
_NAME = re.compile(r"^([0-9a-f]{64})(?:\.[0-9a-f]{8})?\.(qcow2|raw)(?:(?:\.([0-9a-f]{8}))?\.part)?$")
BUSY_ELSEWHERE = "a fetch of another host, which shares this directory, within the last day"
_DAY = 24 * 3600.0
_TIME_GRAIN = 2.0  # seconds, of the coarsest filesystem


@dataclass
class Image:
    """One file of the store. `bytes` are those on the disk; `last_used` is when it was written or when the last operation on a guest with it ended.

    `modified` is the time of the file, and `fetched_by` is the identity of the host that a partial one belongs to.
    """

    path: str
    sha256: str
    format: str
    partial: bool
    virtual_size: int | None
    size_bytes: int
    bytes: int
    last_used: float
    used_by: list[str] = field(default_factory=list)
    modified: float = 0.0
    fetched_by: str | None = None


@contextlib.contextmanager
def examined(
    connection: Any,
    state: StateDir,
    images_path: str,
    directories: Iterable[str],
    sha256s: Iterable[str] = (),
    elsewhere: Iterable[Mapping[str, Any]] = (),
) -> Iterator[tuple[list[Image], Uses]]:
    """The images with their uses, and all uses of this host: those of `sha256s` wherever an image lies, and `unreadable`, disks whose chain cannot be known.

    While the block runs no fetch can begin and no look can find an image that has no use: their locks are held.

    :param elsewhere: what other hosts have answered, `host` and its `uses`. They count where they are of the same file, as on storage that hosts share.
    :raises KvmfleetError: `image_is_symlink` where the store is a link, since what it leads to may be anybody's.
    """
    store = _qemu_img.check_path(os.path.join(images_path, STORE), [images_path])
    with contextlib.ExitStack() as locks:
        held = set()
        for sha256 in sorted({image.sha256 for image in _images(store, {})}):
            try:
                locks.enter_context(state.lock(lock_name(sha256), timeout=0))
                held.add(sha256)
            except KvmfleetError as exc:
                if exc.code != "locked":
                    raise
        images = _images(store, _last_operations(state))
        own = (state.read("host", "identity") or {}).get("digits")
        uses = Uses((image.path for image in images if not image.partial), sha256s)
        uses.of_host(connection, state, [images_path, *directories])
        for image in images:
            image.used_by = sorted(uses.found.get(image.path, ())) + ([] if image.sha256 in held else [BUSY])
            image.used_by += sorted({f"{by} on {other['host']}" for other in elsewhere for by in _same(image, other["uses"].get(image.sha256, {}))})
            if image.fetched_by not in (None, own) and time.time() - image.last_used < _DAY:
                image.used_by.append(BUSY_ELSEWHERE)
        yield images, uses


def _same(image: Image, uses: Mapping[str, Iterable[Iterable[int]]]) -> Iterator[str]:
    """Those of another host's uses of an image with this content that are, or may be, of this very file.

    Hosts that share a directory see the same length and time of a file, whatever they call it; a copy that each of them fetched has a time of its own.
    A use of which no file was found, as in storage that is not mounted, is taken for one of this file.
    """
    for by, files in () if image.partial else uses.items():
        found = [tuple(file) for file in files]
        if not found or any(size == image.size_bytes and abs(modified - image.modified) <= _TIME_GRAIN for size, modified in found):
            yield by


def choose(images: Iterable[Image], now: float, *, older_than: float | None, keep_bytes: int | None) -> list[Image]:
    """Unused images to remove, those first that were not used for longest.

    :param older_than: only those that were not used for so many days; :param keep_bytes: only until all images together take no more.
    """
    images = list(images)
    total = sum(image.bytes for image in images)
    chosen = []
    for image in sorted(images, key=lambda image: (not image.partial, image.last_used)):
        young = older_than is not None and now - image.last_used < older_than * _DAY
        fits = keep_bytes is not None and total <= keep_bytes
        if not image.used_by and not young and not fits:
            chosen.append(image)
            total -= image.bytes
    return chosen


def remove(state: StateDir, images: Iterable[Image]) -> None:
    """Remove images that `examined` found unused, within its block."""
    directories = set()
    for image in images:
        with if_there():  # a host that shares the directory may have removed it
            os.unlink(image.path)
        _identity.forget(state, image.path)
        directories.add(os.path.dirname(image.path))
    for directory in directories:
        sync_directory(directory)


def _images(store: str, last_operations: dict[str, float]) -> list[Image]:
    try:
        entries = sorted(os.scandir(store), key=lambda entry: entry.name)
    except FileNotFoundError:
        return []
    found = []
    for entry in entries:
        name = _NAME.match(entry.name)
        status = entry.stat(follow_symlinks=False)
        if name is None or not stat.S_ISREG(status.st_mode):
            continue
        partial = entry.name.endswith(PART_SUFFIX)
        found.append(
            Image(
                path=entry.path,
                sha256=name[1],
                format=name[2],
                partial=partial,
                virtual_size=None if partial else _virtual_size(entry.path, name[2], status.st_size),
                size_bytes=status.st_size,
                bytes=status.st_blocks * 512,
                last_used=max(status.st_mtime, 0.0 if partial else last_operations.get(name[1], 0.0)),
                modified=status.st_mtime,
                fetched_by=name[3],
            )
        )
    return found


def _virtual_size(path: str, image_format: str, size: int) -> int:
    if image_format == "raw":
        return size
    with open(path, "rb") as stream:
        return int.from_bytes(stream.read(32)[24:], "big")


def _last_operations(state: StateDir) -> dict[str, float]:
    """What the disks in the journal mention, the SHA-256 of base images among it -> when a record last did, closed ones included."""
    last: dict[str, float] = {}
    for record in Journal(state).all():
        for text in strings(record["disks"]):
            last[text] = max(record["updated_at"], last.get(text, 0.0))
    return last
