# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The destination's end of the channel: pulls files with nbdcopy, which reads only data extents over several connections.

It writes through an nbdkit of this host, if there is one (`_channel.cached_file`). Where nbdcopy is missing, qemu-img does it over one connection.

A copy that broke is mended: the checksums of both ends say which segments differ, and qemu-img, which can copy a range, fetches those.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import resource
import shutil
import signal
import subprocess
import time
from typing import Any

from .._journal.progress import Progress, peer_directory
from .._journal.state_dir import StateDir
from .._rules import value_kinds as _value_kinds
from .._rules.errors import KvmfleetError
from .._storage import files as _files
from .._system import whole_file as _whole_file
from .._system.processes import die_with_parent, kill
from . import cached_file as _cached_file, documents as _documents
from .checksums import differing, tree
from .protocol import CHECKSUM, KEY_FILE, MANIFEST, USER, last_line, write_key
from .writeback import Writeback

_POLL = 0.1
_RETRY = 1.0
_SECTOR = 512
_GAP = 4 * 1024 * 1024  # what travels while qemu-img starts once more
_PROGRESS = 64 * 1024  # a tool that writes less has not got on: a message, a wake-up of its threads
_SPARE = 64 * 1024 * 1024  # what a copy may write beyond the data that was announced, and a quarter of that: messages, edges of extents


class Client:
    """The destination's end: pulls files by name, with `tool`. `spared` counts the bytes that did not travel since an earlier operation had brought them.

    :param stall_timeout: seconds without progress after which a copy is given up.
    """

    def __init__(self, state: StateDir, uuid: str, *, address: str, port: int, key: str, stall_timeout: float) -> None:
        state.ensure("exports")
        self.directory = peer_directory(state, uuid)
        self.address, self.port, self.stall_timeout = address, port, stall_timeout
        self.progress = Progress(self.directory)
        # libnbd calls a server by its IPv6 address in brackets, which GnuTLS at the other end takes for no name of a server.
        self.tool = "nbdcopy" if ":" not in address and shutil.which("nbdcopy") else "qemu-img"
        self.spared = 0
        self._writebacks: list[Writeback] = []
        self._done = 0
        self._announced: int | None = None
        self._key = key

    def __enter__(self) -> Client:
        os.makedirs(self.directory, mode=0o700, exist_ok=True)
        write_key(self._key_file, self._key)
        return self

    def __exit__(self, *_exc: object) -> None:
        shutil.rmtree(self.directory, ignore_errors=True)

    def private_path(self, name: str) -> str:
        """Where a file may wait until the channel is left, in a directory that nobody else gets into."""
        return os.path.join(self.directory, "private-" + name)

    def settle(self) -> None:
        """Return when all that was copied is on the disk."""
        while self._writebacks:
            self._writebacks.pop().wait()

    def copy(self, name: str, path: str, length: int | None = None) -> None:
        """Copy an export into the file `path` (replaced), holes kept.

        :param length: the length of the file, which QEMU's server and client round up to a sector; None for a document. The other host sends no more.
        """
        _files.remove_unfinished([path])
        limit = _value_kinds.DOCUMENT_LIMIT if length is None else _whole_sectors(length)
        if self.tool == "nbdcopy" and length is not None and _cached_file.available(self.directory):
            self._copy_through_nbdkit(name, path, length)
        elif self.tool == "nbdcopy":
            self._run(["nbdcopy", "--flush", self._uri(name), path], name, limit)
        else:
            source = {"driver": "raw", **_below(self._node(name))}
            self._run([*self._convert, "-t", "writeback", "--image-opts", "-O", "raw", _options(source), path], name, limit)
        if length is not None:
            _set_size(path, length)

    def _copy_through_nbdkit(self, name: str, path: str, length: int) -> None:
        _set_size(path, _whole_sectors(length))
        writeback = Writeback(path)
        self._writebacks.append(writeback)
        try:
            with _cached_file.served(path, self.directory) as (uri, writer):
                self._run(["nbdcopy", "--destination-is-zero", self._uri(name), uri], name, _whole_sectors(length), writer)
        finally:
            writeback.complete()

    def copy_persistently(self, name: str, path: str, size: int, length: int) -> None:
        """Copy an export whose checksum is offered too, and go on with what is there already.

        A copy that breaks goes on as long as it gets on within `stall_timeout`.

        :param size: its bytes of data, for the progress; :param length: as for `copy`.
        """
        before, self._announced = self._done, size
        if os.path.lexists(path):
            self._mend(name, path, before, size, length, None)
        else:
            try:
                self.copy(name, path, length)
            except KvmfleetError as exc:
                if exc.code != "copy_failed":
                    raise
                self._mend(name, path, before, size, length, exc)
        self._done, self._announced = before + size, None

    def _mend(self, name: str, path: str, before: int, size: int, length: int, error: KvmfleetError | None) -> None:
        """Fetch the segments that differ until none does. Only fewer of them count as progress, so that a bad sector ends it.

        :param error: what broke the copy; None for a file that an earlier operation has left.
        """
        best, since = None, time.monotonic()
        try:
            want = self.checksum(name, length)
        except KvmfleetError as exc:
            raise (error or exc) from exc
        if "error" in want:
            raise KvmfleetError("verification_failed", f"The source could not read its own copy of {name}: {want['error']}.")
        while True:
            self.progress.resumed += 1
            _set_size(path, want["size"])
            ranges = differing(tree(path, segment_size=want["segment_size"]), want, gap=_GAP)
            missing = sum(end - start for start, end in ranges)
            if error is None and best is None:
                self.spared += max(0, size - missing)
            if not missing:
                self._writebacks.append(writeback := Writeback(path))
                writeback.complete()
                return
            if best is None or missing < best:
                best, since = missing, time.monotonic()
            elif time.monotonic() - since > self.stall_timeout:
                what = f"{name} still differs from what the source says of it, {self.stall_timeout:g} s after the rest was fetched again and again."
                raise error or KvmfleetError("verification_failed", what, export=name)
            self._done = before + max(0, size - missing)
            try:
                self._copy_ranges(name, path, ranges, want["size"])
            except KvmfleetError as exc:
                if exc.code != "copy_failed":
                    raise
                error = exc
                time.sleep(_RETRY)

    def _copy_ranges(self, name: str, path: str, ranges: list[tuple[int, int]], size: int) -> None:
        padded = _whole_sectors(size)
        _set_size(path, padded)
        for start, end in ranges:
            # Bytes behind the end of the file, which qemu-img rounds up to a sector, are zeros on both sides.
            extent = {"driver": "raw", "offset": start, "size": _whole_sectors(end) - start}
            source, target = ({**extent, **_below(file)} for file in (self._node(name), {"driver": "file", "filename": path}))
            self._run([*self._convert, "-n", "--image-opts", "--target-image-opts", _options(source), _options(target)], name, padded)
            self._done += end - start
        _set_size(path, size)

    def _run(self, command: list[str], name: str, limit: int, writer: int | None = None) -> None:
        """Run a tool that copies; it dies with this process, and with a file that grows beyond `limit` bytes, whatever the other host sends.

        :param writer: the process that writes the file, where it is not the tool itself.
        """
        errors = os.path.join(self.directory, "copy.log")
        with open(errors, "wb") as log:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=lambda: _bounded(limit),
                umask=0o077,
                env=dict(os.environ, LC_ALL="C"),
            )
        try:
            self._wait(process, name, writer or process.pid)
        except BaseException:
            kill(process)
            raise
        if process.returncode == -signal.SIGXFSZ:
            raise KvmfleetError("manifest_invalid", f"{self.address} port {self.port} sends {name} with more than {limit} bytes.", export=name, limit=limit)
        if process.returncode != 0:
            message = last_line(errors)
            local = any(os.strerror(number) in message for number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS))
            code = "no_space" if local else "copy_failed"
            raise KvmfleetError(code, f"Copying {name} from {self.address} port {self.port} failed: {message}", export=name)

    def document(self, name: str) -> dict[str, Any]:
        """A JSON document of the channel, as the other host has made it: `_channel.documents.document` tells whether it is what it should be."""
        path = os.path.join(self.directory, name + ".json")
        self.copy(name, path)
        try:
            with open(path, encoding="utf-8") as stream:
                return json.loads(stream.read(_value_kinds.DOCUMENT_LIMIT).rstrip("\0"))  # QEMU fills the last sector up
        except (ValueError, RecursionError) as exc:
            raise KvmfleetError("manifest_invalid", f"The document {name} of {self.address} is not JSON: {exc}.") from exc

    def checksum(self, name: str, length: int) -> dict[str, Any]:
        """The checksum of an export of this length, or its `error`; waits as long as the source answers, which has a large file to read."""
        since = time.monotonic()
        while True:
            try:
                return _documents.checksum(name, self.document(CHECKSUM + name), length)
            except KvmfleetError as exc:
                if exc.code == "manifest_invalid":
                    raise
                with contextlib.suppress(KvmfleetError):
                    self.document(MANIFEST)
                    since = time.monotonic()
                if time.monotonic() - since > self.stall_timeout:
                    raise
                time.sleep(_POLL)

    def _uri(self, name: str) -> str:
        host = f"[{self.address}]" if ":" in self.address else self.address
        return f"nbds://{USER}@{host}:{self.port}/{name}?tls-psk-file={self._key_file}"

    def _node(self, name: str) -> dict[str, Any]:
        """The export for QEMU's tools."""
        return {"driver": "nbd", "server.type": "inet", "server.host": self.address, "server.port": self.port, "export": name, "tls-creds": "tls"}

    @property
    def _convert(self) -> list[str]:
        credentials = _options({"id": "tls", "endpoint": "client", "dir": self.directory, "username": USER})
        return ["qemu-img", "convert", "-W", "-m", "8", "--object", "tls-creds-psk," + credentials]

    @property
    def _key_file(self) -> str:
        return os.path.join(self.directory, KEY_FILE)

    def _wait(self, process: subprocess.Popen[bytes], name: str, writer: int) -> None:
        marked, since = 0, time.monotonic()
        while True:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=_POLL)
                return
            written = _written(writer)
            self.progress.reached(self._done + written)
            if self._announced is not None and written > self._announced + self._announced // 4 + _SPARE:
                raise KvmfleetError(
                    "manifest_invalid",
                    f"{self.address} port {self.port} sends {name} with more than the {self._announced} bytes of data that it told of.",
                    export=name,
                )
            if written >= marked + _PROGRESS:
                marked, since = written, time.monotonic()
            elif time.monotonic() - since > self.stall_timeout:
                raise KvmfleetError(
                    "copy_stalled",
                    f"Copying {name} from {self.address} port {self.port} made no progress for {self.stall_timeout:g} s; check the network between the hosts.",
                    export=name,
                )


def forget_peer(state: StateDir, uuid: str) -> None:
    """Remove what a client left behind that was killed, its key above all."""
    shutil.rmtree(peer_directory(state, uuid), ignore_errors=True)


def _written(pid: int) -> int:
    """Bytes that a process has written so far; what it received from a socket is not among those that it read."""
    with contextlib.suppress(FileNotFoundError, PermissionError, ProcessLookupError), open(f"/proc/{pid}/io", encoding="ascii") as stream:
        for line in stream:
            if line.startswith("wchar:"):
                return int(line.split()[1])
    return 0


def _bounded(limit: int) -> None:
    """In a child, before it becomes another program: die with the parent, and write no file beyond so many bytes."""
    die_with_parent()
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))


def _whole_sectors(size: int) -> int:
    return -(-size // _SECTOR) * _SECTOR


def _set_size(path: str, size: int) -> None:
    with _whole_file.part(path) as descriptor:
        os.ftruncate(descriptor, size)


def _below(node: dict[str, Any]) -> dict[str, Any]:
    return {f"file.{key}": value for key, value in node.items()}


def _options(values: dict[str, Any]) -> str:
    """Options as QEMU's tools read them, commas doubled."""
    return ",".join(f"{key}={value}".replace(",", ",,") for key, value in values.items())
