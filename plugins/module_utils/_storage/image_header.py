# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the header of an image says that it stands on. It is read here and not by QEMU's tools: nothing is opened because of what a header names."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Container, Iterator
from typing import Any

_MAGIC = b"QFI\xfb"
_HEADER = 20
_BACKING_FORMAT = b"\xe2\x79\x2a\xca"  # the extension of the header that tells it
_MAX_NAME = 1023
_MAX_OFFSET = 2**63
_MAX_FILES = 1000
_DRIVERS = ("qcow2", "raw", "file", "host_device")  # what else is a text in the JSON of a local image
_NO_FILES = ("/dev/", "/proc/", "/sys/")


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


def _told_raw(path: str) -> bool:
    """Whether the header of a qcow2 image says that its backing file is raw."""
    with open(path, "rb", buffering=0) as stream:
        header = os.pread(stream.fileno(), 4096, 0)
    at = int.from_bytes(header[100:104], "big") if header[4:8] == b"\0\0\0\3" else 72
    while 72 <= at <= len(header) - 8:
        kind, length = header[at : at + 4], int.from_bytes(header[at + 4 : at + 8], "big")
        if kind == _BACKING_FORMAT:
            return header[at + 8 : at + 8 + length] == b"raw"
        if kind == bytes(4):
            break
        at += 8 + -(-length // 8) * 8
    return False


def walk(top: str, known: Container[str] = ()) -> tuple[list[tuple[str, str]], list[tuple[str, OSError]]]:
    """Go from an image to its backing file, to that one's, and so on.

    :param known: real paths of images that are not looked into.
    :returns: each image with the name of its backing file as the header has it, and each that could not be read, with the error.
    """
    named, unreadable, seen, waiting = [], [], set(), [top]
    while waiting and len(seen) < _MAX_FILES:
        path = os.path.realpath(waiting.pop())
        if path in seen or path in known:
            continue
        seen.add(path)
        try:
            backing = backing_name(path, device=path == os.path.realpath(top))
        except OSError as exc:
            unreadable.append((path, exc))
            continue
        if backing is not None:
            named.append((path, backing))
            if not _told_raw(path):  # raw stands on nothing, and what a guest names so is none of our business
                waiting += below(path, backing)
    if waiting:
        unreadable.append((top, OSError(f"more than {_MAX_FILES} layers")))
    return named, unreadable


def below(path: str, backing: str) -> list[str]:
    """The files that the name of a backing file in the header of `path` may mean."""
    return [os.path.join(os.path.dirname(path), name) for name in named_files(backing)]


def named_files(backing: str) -> list[str]:
    """The names of files in the name of a backing file; none of this host's if it is neither a path nor JSON with paths."""
    if "\0" in backing:
        return []
    if backing.startswith("json:"):
        try:
            texts = strings(json.loads(backing[len("json:") :]))
            return [name for text in texts if not (text.startswith("json:") or text in _DRIVERS) for name in named_files(text)]
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
