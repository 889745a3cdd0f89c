# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Checksums of what a file contains, cheap on sparse files and the same for every way of storing the holes.

A file has a checksum for each of its segments of one length, and a root over these: two files are equal exactly when their roots are (up to SHA-256), and
where they differ, the segments say where, so that a copy that broke off can be mended instead of made again.
"""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

BLOCK = 64 * 1024
_SEGMENT = 1024 * 1024
_MAX_SEGMENTS = 16384
_ZERO = bytes(BLOCK)
_MAX_THREADS = 4


def tree(path: str, mode: str = "extents", *, segment_size: int | None = None, on_progress: Callable[[int], None] | None = None) -> dict[str, Any]:
    """Checksums of the segments of a file, and `sha256`, the root: over its length, the segment size and the segments' checksums.

    The checksum of a segment is over each 64 KiB block in it that is not all zero: its number in the segment, and its bytes. So zeros may be
    stored, punched out or never written.

    :param mode: `extents` reads data extents, through the page cache; `full` reads every byte, holes too, back from the disk.
    :param segment_size: bytes, a multiple of 64 KiB; None for one that depends on the file's size alone.
    :param on_progress: called with the number of bytes of each segment that is done, from any thread.
    :returns: `size`, `segment_size`, `segments` (in order, hexadecimal), `sha256`.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        size = os.lseek(descriptor, 0, os.SEEK_END)
        if mode == "full":
            os.fsync(descriptor)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        step = segment_size or segment_for(size)

        def of_segment(start: int) -> str:
            end = min(start + step, size)
            value = _segment(descriptor, start, end, size, holes=mode == "full")
            if on_progress:
                on_progress(end - start)
            return value

        # hashlib and pread let other threads run.
        with ThreadPoolExecutor(min(_MAX_THREADS, os.cpu_count() or 1)) as pool:
            segments = list(pool.map(of_segment, range(0, size, step)))
    finally:
        os.close(descriptor)
    return {"size": size, "segment_size": step, "segments": segments, "sha256": root(size, step, segments)}


def segment_for(size: int) -> int:
    """Bytes of a segment of a file: as small as is worth a copy of its own, and so large that a document holds the checksums of all."""
    segment = _SEGMENT
    while segment * _MAX_SEGMENTS < size:
        segment *= 2
    return segment


def root(size: int, segment_size: int, segments: list[str]) -> str:
    """The checksum that stands for all of a file."""
    hasher = hashlib.sha256(size.to_bytes(8, "big") + segment_size.to_bytes(8, "big"))
    for segment in segments:
        hasher.update(bytes.fromhex(segment))
    return hasher.hexdigest()


def differing(have: dict[str, Any], want: dict[str, Any], *, gap: int = 0) -> list[tuple[int, int]]:
    """Ranges `(start, end)` in bytes of the wanted file that another tree of the same segment size lacks.

    :param gap: ranges with no more bytes than this between them are one.
    """
    step, size = want["segment_size"], want["size"]
    ranges: list[tuple[int, int]] = []
    for number, checksum in enumerate(want["segments"]):
        if number < len(have["segments"]) and have["segments"][number] == checksum:
            continue
        start, end = number * step, min((number + 1) * step, size)
        if ranges and start - ranges[-1][1] <= gap:
            ranges[-1] = (ranges[-1][0], end)
        else:
            ranges.append((start, end))
    return ranges


def data_bytes(path: str) -> int:
    """Bytes of the file that are not holes: what a sparse copy has to send."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        return sum(end - start for start, end in _extents(descriptor, 0, os.lseek(descriptor, 0, os.SEEK_END)))
    finally:
        os.close(descriptor)


def _segment(descriptor: int, begin: int, end: int, size: int, *, holes: bool) -> str:
    hasher, buffer = hashlib.sha256(), bytearray(BLOCK)
    for start, stop in [(begin, end)] if holes else _data(descriptor, begin, end):
        for offset in range(start, stop, BLOCK):
            length = min(BLOCK, size - offset)
            block = buffer if length == BLOCK else bytearray(length)
            _read(descriptor, offset, block)
            if block != (_ZERO if length == BLOCK else bytes(length)):
                hasher.update(((offset - begin) // BLOCK).to_bytes(8, "big"))
                hasher.update(block)
    return hasher.hexdigest()


def _extents(descriptor: int, position: int, end: int) -> Iterator[tuple[int, int]]:
    """Data extents from a position up to an end. Where the file system or device cannot tell, all is data."""
    while position < end:
        try:
            start = os.lseek(descriptor, position, os.SEEK_DATA)
            stop = os.lseek(descriptor, start, os.SEEK_HOLE)
        except OSError as exc:
            if exc.errno == errno.ENXIO:
                return
            if exc.errno != errno.EINVAL:
                raise
            start, stop = position, end
        if start >= end:
            return
        yield start, min(stop, end)
        position = stop


def _data(descriptor: int, begin: int, end: int) -> Iterator[tuple[int, int]]:
    """Data extents within a segment, widened to block boundaries, overlaps removed."""
    done = begin
    for start, stop in _extents(descriptor, begin, end):
        start = max(start - start % BLOCK, done)
        stop = min(-(-stop // BLOCK) * BLOCK, end)
        if start < stop:
            yield start, stop
            done = stop


def _read(descriptor: int, offset: int, block: bytearray) -> None:
    """Fill the block, or fail: the file must not become shorter meanwhile."""
    done, view = 0, memoryview(block)
    while done < len(block):
        count = os.preadv(descriptor, [view[done:]], offset + done)
        if not count:
            raise OSError(errno.EIO, "file became shorter while it was read")
        done += count
