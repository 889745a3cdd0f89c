# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The destination's end of the channel: pulls files with nbdcopy, which reads only data extents over several connections."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import shutil
import signal
import subprocess
import time
from typing import Any

from ._channel import USER, last_line, write_key
from ._errors import KvmfleetError
from ._state_dir import StateDir

_POLL = 0.1
_DOCUMENT_LIMIT = 16 * 1024 * 1024
_PR_SET_PDEATHSIG = 1


class Client:
    """The destination's end: pulls files by name.

    :param stall_timeout: seconds without progress after which a copy is given up.
    """

    def __init__(self, state: StateDir, uuid: str, *, address: str, port: int, key: str, stall_timeout: float) -> None:
        self.directory = os.path.join(state.ensure("exports"), uuid + ".peer")
        self.address, self.port, self.stall_timeout = address, port, stall_timeout
        self._key = key

    def __enter__(self) -> Client:
        os.makedirs(self.directory, mode=0o700, exist_ok=True)
        write_key(os.path.join(self.directory, "psk"), self._key)
        return self

    def __exit__(self, *_exc: object) -> None:
        shutil.rmtree(self.directory, ignore_errors=True)

    def copy(self, name: str, path: str) -> None:
        """Copy an export into the file `path` (replaced), holes kept; it is on disk when this returns."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        errors = os.path.join(self.directory, "nbdcopy.log")
        with open(errors, "wb") as log:
            process = subprocess.Popen(
                ["nbdcopy", "--flush", self._uri(name), path], stdin=subprocess.DEVNULL, stdout=log, stderr=log, preexec_fn=_child_of_module, umask=0o077
            )
        try:
            self._wait(process, name)
        except BaseException:
            process.kill()
            process.wait()
            raise
        if process.returncode != 0:
            raise KvmfleetError("copy_failed", f"Copying {name} from {self.address} port {self.port} failed: {last_line(errors)}", export=name)

    def document(self, name: str, *, wait: float = 0.0) -> dict[str, Any]:
        """A JSON document of the channel.

        :param wait: seconds to wait for it to be offered.
        """
        path = os.path.join(self.directory, name + ".json")
        deadline = time.monotonic() + wait
        while True:
            try:
                self.copy(name, path)
                break
            except KvmfleetError:
                if time.monotonic() >= deadline:
                    raise
                time.sleep(_POLL)
        if os.path.getsize(path) > _DOCUMENT_LIMIT:
            raise KvmfleetError("manifest_invalid", f"The document {name} of {self.address} is larger than {_DOCUMENT_LIMIT} bytes.")
        try:
            with open(path, encoding="utf-8") as stream:
                return json.load(stream)
        except ValueError as exc:
            raise KvmfleetError("manifest_invalid", f"The document {name} of {self.address} is not JSON: {exc}.") from exc

    def _uri(self, name: str) -> str:
        host = f"[{self.address}]" if ":" in self.address else self.address
        return f"nbds://{USER}@{host}:{self.port}/{name}?tls-psk-file={os.path.join(self.directory, 'psk')}"

    def _wait(self, process: subprocess.Popen[bytes], name: str) -> None:
        progress, since = None, time.monotonic()
        while True:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=_POLL)
                return
            now = _io_counters(process.pid)
            if now != progress:
                progress, since = now, time.monotonic()
            elif time.monotonic() - since > self.stall_timeout:
                raise KvmfleetError(
                    "copy_stalled",
                    f"Copying {name} from {self.address} port {self.port} made no progress for {self.stall_timeout:g} s; check the network between the hosts.",
                    export=name,
                )


def forget_peer(state: StateDir, uuid: str) -> None:
    """Remove what a client left behind that was killed, its key above all."""
    shutil.rmtree(os.path.join(state.path, "exports", uuid + ".peer"), ignore_errors=True)


def _child_of_module() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _io_counters(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/io", encoding="ascii") as stream:
            return stream.read()
    except (FileNotFoundError, PermissionError, ProcessLookupError):
        return ""
