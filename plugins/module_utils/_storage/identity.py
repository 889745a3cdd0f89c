# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The `ContentId` of a base image: what it contains, not how it is called.

For a file that stands on nothing its `sha256` is that of its bytes. For a layer it is one over its own content (`_storage.layer_content`) and the ContentId of
the layer below, so that it says what a guest reads through it, wherever a host keeps the layers.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from .._journal.state_dir import StateDir
from .._rules.content_id import ContentId
from .._rules.errors import KvmfleetError
from . import qemu_img as _qemu_img
from .layer_content import feed_header

_BUFFER = 4 * 1024 * 1024
_LOCK_TIMEOUT = 3600.0
_SETTLED = 2.0  # seconds; a file changed more recently might change again without a new timestamp


def content_id(state: StateDir, path: str, fmt: str, directories: Sequence[str]) -> ContentId:
    """That of an image that nobody writes to; what was read is remembered until the file's inode changes.

    :param directories: where its layers may lie, if it stands on others.
    :raises KvmfleetError: `image_changed` if it was written to meanwhile, and those of `_storage.qemu_img.chain` and `feed_header`.
    """
    return content_ids(state, _qemu_img.chain(path, fmt, directories))[0]


def content_ids(state: StateDir, layers: Sequence[_qemu_img.Layer]) -> list[ContentId]:
    """That of each layer of a chain, of which the last stands on nothing."""
    found: list[ContentId] = []
    for layer in reversed(layers):
        found.insert(0, _of_layer(sha256(state, layer.path, found[0] if found else None), layer))
    return found


def known_content_ids(state: StateDir, layers: Sequence[_qemu_img.Layer]) -> list[ContentId | None]:
    """The same as far as it is known without a look at what the files contain; None for the others, and for what stands on them. Nothing is written."""
    found: list[ContentId | None] = []
    for layer in reversed(layers):
        record = state.read("digests", _name(os.path.realpath(layer.path)))
        if record is None or not is_current(record) or record.get("layered") != bool(found) or (found and found[0] is None):
            found.insert(0, None)
            continue
        found.insert(0, _of_layer(combined(record["content"], found[0] if found else None), layer))
    return found


def _of_layer(value: str, layer: _qemu_img.Layer) -> ContentId:
    return {"sha256": value, "format": layer.format, "virtual_size": layer.virtual_size, "size_bytes": layer.file_size}


def require(state: StateDir, path: str, expected: Mapping[str, Any], directories: Sequence[str]) -> None:
    """KvmfleetError `base_differs` unless the image has the expected sha256, format and virtual size, those of a ContentId or of what is known of a base."""
    found = content_id(state, path, expected["format"], directories)
    for key in ("sha256", "virtual_size"):
        if found[key] != expected[key]:
            raise KvmfleetError(
                "base_differs",
                f"The base image {path} is not the one that the guest was written on: {key} is {found[key]}, expected {expected[key]}.",
                path=path,
                need=expected[key],
                have=found[key],
            )


def sha256(state: StateDir, path: str, below: ContentId | None = None) -> str:
    """That of a ContentId: of an image that stands on nothing, or of a layer on `below`."""
    return combined(content(state, path, below), below)


def content(state: StateDir, path: str, below: ContentId | None = None) -> str:
    """SHA-256 over the bytes of the file, holes as zeros, or of a layer without its name of the file below; two processes never read the same file twice."""
    real = os.path.realpath(path)
    layered = below is not None
    with _locked(state, real) as name, open(real, "rb", buffering=0, opener=_open_no_link) as stream:
        before = os.fstat(stream.fileno())
        cached = state.read("digests", name)
        if cached and {key: cached.get(key) for key in ("layered", *_stamp(before))} == {"layered": layered, **_stamp(before)}:
            value = cached["content"]
            if cached["sha256"] != combined(value, below):
                state.write("digests", name, _record(real, value, below, before))
            return value
        started = time.time()
        value = _sha256(stream, path, layered)
        after = os.fstat(stream.fileno())
        if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
            raise KvmfleetError("image_changed", f"{path} was written to while it was read; a base image must be read-only.", path=path)
        if _stamp(before) == _stamp(after) and started - max(after.st_mtime, after.st_ctime) > _SETTLED:
            state.write("digests", name, _record(real, value, below, after))
        return value


def remember(state: StateDir, path: str, value: str, below: ContentId | None) -> None:
    """Keep the `content` of a file that this process made and proved, so that nobody reads it again; nobody else may be writing to it."""
    real = os.path.realpath(path)
    with _locked(state, real) as name:
        state.write("digests", name, _record(real, value, below, os.lstat(real)))


def forget(state: StateDir, path: str) -> None:
    """Drop what is kept of a file that is gone."""
    real = os.path.realpath(path)
    with _locked(state, real) as name:
        state.remove("digests", name)


def known(state: StateDir) -> list[dict[str, Any]]:
    """`path` and `sha256` of each file of which that is known, as long as the file is what was read."""
    return [record for record in state.read_all("digests") if is_current(record)]


def is_current(record: dict[str, Any]) -> bool:
    """Whether a file is still what was read of it."""
    try:
        status = os.lstat(record["path"])
    except OSError:
        return False
    return all(record.get(key) == value for key, value in _stamp(status).items())


@contextlib.contextmanager
def _locked(state: StateDir, real: str) -> Iterator[str]:
    """The name of a file's record in `digests`, while no other process writes it."""
    name = _name(real)
    with state.lock(f"digest-{name}", timeout=_LOCK_TIMEOUT):
        yield name


def _name(real: str) -> str:
    """What the record of a file is called."""
    return hashlib.sha256(os.fsencode(real)).hexdigest()


def combined(value: str, below: ContentId | None) -> str:
    """The `sha256` of an image whose `content` is known."""
    return value if below is None else hashlib.sha256(f"{value} on {below['sha256']} {below['format']}".encode()).hexdigest()


def _record(real: str, value: str, below: ContentId | None, status: os.stat_result) -> dict[str, Any]:
    return {"path": real, "sha256": combined(value, below), "content": value, "layered": below is not None, **_stamp(status)}


def _sha256(stream: Any, path: str, layered: bool) -> str:
    hasher, buffer = hashlib.sha256(), memoryview(bytearray(_BUFFER))
    if layered:
        stream.seek(feed_header(stream, hasher, path))
    while True:
        count = stream.readinto(buffer)
        if not count:
            return hasher.hexdigest()
        hasher.update(buffer[:count])


def _stamp(status: os.stat_result) -> dict[str, int]:
    return {
        "device": status.st_dev,
        "inode": status.st_ino,
        "size": status.st_size,
        "mtime_ns": status.st_mtime_ns,
        "ctime_ns": status.st_ctime_ns,
    }


def _open_no_link(path: str, _flags: int) -> int:
    return os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
