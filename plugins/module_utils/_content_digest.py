# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A digest of what a file contains that is cheap on sparse files and the same for every way of storing the holes."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Iterator

BLOCK = 64 * 1024
_CHUNK = 16 * BLOCK
_ZERO = bytes(BLOCK)


def content_digest(path: str) -> dict[str, int | str]:
    """SHA-256 over the file's length and, for each aligned 64 KiB block that is not all zero, its number and bytes.

    Two files have the same digest exactly when they read the same (up to SHA-256), whether zeros are stored, punched out or never written.

    :returns: `sha256`, `size` (bytes).
    """
    digest = hashlib.sha256()
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        size = os.fstat(descriptor).st_size
        digest.update(size.to_bytes(8, "big"))
        for start, end in _data(descriptor, size):
            for offset in range(start, end, _CHUNK):
                chunk = _read(descriptor, offset, min(_CHUNK, end - offset))
                view = memoryview(chunk)
                for inner in range(0, len(chunk), BLOCK):
                    block = view[inner : inner + BLOCK]
                    if block != _ZERO[: len(block)]:
                        digest.update(((offset + inner) // BLOCK).to_bytes(8, "big"))
                        digest.update(block)
    finally:
        os.close(descriptor)
    return {"sha256": digest.hexdigest(), "size": size}


def data_bytes(path: str) -> int:
    """Bytes of the file that are not holes: what a sparse copy has to send."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        return sum(end - start for start, end in _extents(descriptor, os.fstat(descriptor).st_size))
    finally:
        os.close(descriptor)


def _extents(descriptor: int, size: int) -> Iterator[tuple[int, int]]:
    position = 0
    while position < size:
        try:
            start = os.lseek(descriptor, position, os.SEEK_DATA)
        except OSError as exc:
            if exc.errno == errno.ENXIO:
                return
            raise
        position = os.lseek(descriptor, start, os.SEEK_HOLE)
        yield start, position


def _data(descriptor: int, size: int) -> Iterator[tuple[int, int]]:
    """Data extents widened to block boundaries, overlaps removed."""
    done = 0
    for start, end in _extents(descriptor, size):
        start = max(start - start % BLOCK, done)
        end = min(-(-end // BLOCK) * BLOCK, size)
        if start < end:
            yield start, end
            done = end


def _read(descriptor: int, offset: int, length: int) -> bytes:
    parts = []
    while length:
        part = os.pread(descriptor, length, offset)
        if not part:
            raise OSError(errno.EIO, "file became shorter while it was read")
        parts.append(part)
        offset += len(part)
        length -= len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)
