# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The NBD servers that can serve a channel: nbdkit, and QEMU's own where that is missing.

Both serve the entries of one directory by name on a socket that they inherit, over TLS with a pre-shared key, read-only. nbdkit looks into the
directory for each client. QEMU's is told of each entry: it runs as qemu-storage-daemon, since qemu-nbd serves one file on each port.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from typing import Any

from .._rules.errors import KvmfleetError
from . import ciphers as _ciphers
from .protocol import KEY_FILE, start_server

TRANSPORTS = ("nbdkit", "qemu-nbd")
_PROGRAMS = {"nbdkit": "nbdkit", "qemu-nbd": "qemu-storage-daemon"}
_TIMEOUT = 10.0
# nbdkit takes the socket over as one that systemd would hand it.
_WITH_SOCKET = 'exec 3<&"$0"; export LISTEN_FDS=1 LISTEN_PID=$$; exec "$@"'


def choose(wanted: str) -> str:
    """The transport to take on this host: the wanted one, or for `auto` the first whose program is there.

    :raises KvmfleetError: `tool_missing`.
    """
    candidates = TRANSPORTS if wanted == "auto" else (wanted,)
    for transport in candidates:
        if shutil.which(_PROGRAMS[transport]):
            return transport
    programs = " nor ".join(_PROGRAMS[transport] for transport in candidates)
    raise KvmfleetError("tool_missing", f"No {programs} is installed to serve the channel; run the role kvmfleet.compute.prepare_host on this host.")


class Program:
    """A server of the files of one channel; `show` and `hide` may be called in any process of the host."""

    def __init__(self, directory: str) -> None:
        self.directory = directory
        self.files = os.path.join(directory, "files")

    def start(self, listener: socket.socket, bandwidth_limit: int) -> subprocess.Popen[bytes]:
        """Start the server on the socket; it answers when this returns.

        :param bandwidth_limit: bytes a second over all connections, 0 for none.
        """
        raise NotImplementedError

    def show(self, name: str) -> None:
        """An entry of `files` is new, or another file."""

    def hide(self, name: str) -> None:
        """An entry of `files` is gone."""

    def _run(self, command: list[str], listener: socket.socket) -> subprocess.Popen[bytes]:
        """Run the program with the socket and the directory for its own, until its file `server.pid` says that it is ready."""
        return start_server(
            command,
            pidfile=os.path.join(self.directory, "server.pid"),
            log=os.path.join(self.directory, "server.log"),
            failure=lambda said: KvmfleetError("channel_failed", said),
            pass_fds=(listener.fileno(),),
            cwd=self.directory,
            env=dict(os.environ, **_ciphers.variables(self.directory)),
        )


class Nbdkit(Program):
    """Looks into `files` whenever a client asks."""

    def start(self, listener: socket.socket, bandwidth_limit: int) -> subprocess.Popen[bytes]:
        # The rate of this filter is that of all connections together, in bits.
        filters, rate = (["--filter=rate"], [f"rate={bandwidth_limit * 8}"]) if bandwidth_limit else ([], [])
        command = ["nbdkit", "--foreground", "--readonly", "--tls=require", f"--tls-psk={KEY_FILE}", "--pidfile=server.pid"]
        return self._run(["sh", "-c", _WITH_SOCKET, str(listener.fileno()), *command, *filters, "file", "dir=files", *rate], listener)


class QemuStorageDaemon(Program):
    """Is told through its monitor, a socket that serves one client at a time, so that what one says there is not mixed with what another does."""

    def start(self, listener: socket.socket, bandwidth_limit: int) -> subprocess.Popen[bytes]:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(os.path.join(self.directory, "monitor"))
        # One group for all files, and so for all connections.
        group = {"qom-type": "throttle-group", "id": "limit", "limits": {"bps-read": bandwidth_limit}}
        process = self._run(
            ["qemu-storage-daemon", "--object", "tls-creds-psk,id=tls,endpoint=server,dir=.", "--object", json.dumps(group), "--pidfile", "server.pid"]
            + ["--chardev", "socket,id=monitor,server=on,wait=off,path=monitor", "--monitor", "chardev=monitor"]
            + ["--nbd-server", f"addr.type=fd,addr.str={listener.fileno()},tls-creds=tls"],
            listener,
        )
        for name in os.listdir(self.files):
            self.show(name)
        return process

    def show(self, name: str) -> None:
        path = os.path.realpath(os.path.join(self.files, name))
        with self._talk() as monitor:
            monitor.hide(name)
            # The file is sealed, or a layer that nobody writes to; nbdkit takes no lock either.
            file = {"driver": "file", "filename": path, "locking": "off", "read-only": True}
            node = {"driver": "throttle", "node-name": _node(name), "throttle-group": "limit", "read-only": True, "file": file}
            # A file that cannot be opened is not served, and its checksum says why.
            if "error" not in monitor.execute("blockdev-add", **node):
                monitor.execute("block-export-add", type="nbd", id=name, name=name, writable=False, **{"node-name": _node(name)})

    def hide(self, name: str) -> None:
        with self._talk() as monitor:
            monitor.hide(name)

    @contextlib.contextmanager
    def _talk(self) -> Iterator[_Monitor]:
        """A conversation with the daemon; one that died is started again by the supervisor, and shown all that is in `files`."""
        try:
            with self._connect() as connection:
                yield _Monitor(connection)
        except (OSError, ValueError) as exc:
            raise KvmfleetError("channel_failed", f"qemu-storage-daemon does not answer: {exc}.") from exc

    def _connect(self) -> socket.socket:
        deadline = time.monotonic() + _TIMEOUT
        directory = os.open(self.directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            while True:
                connection = socket.socket(socket.AF_UNIX)
                connection.settimeout(_TIMEOUT)
                try:
                    connection.connect(f"/proc/self/fd/{directory}/monitor")  # the address of a socket has at most 107 bytes
                    return connection
                except (ConnectionRefusedError, FileNotFoundError):
                    connection.close()
                    if time.monotonic() > deadline:
                        raise
                    time.sleep(0.02)
        finally:
            os.close(directory)


class _Monitor:
    """QEMU's machine protocol: a line for a command, a line for its answer, and events between them."""

    def __init__(self, connection: socket.socket) -> None:
        self.stream = connection.makefile("rw", encoding="utf-8")
        self.stream.readline()
        self.execute("qmp_capabilities")

    def execute(self, command: str, **arguments: Any) -> dict[str, Any]:
        self.stream.write(json.dumps({"execute": command, "arguments": arguments}) + "\n")
        self.stream.flush()
        while True:
            answer = json.loads(self.stream.readline())
            if "event" not in answer:
                return answer

    def hide(self, name: str) -> None:
        """Withdraw an export that may be there; who reads from it is cut off, and gone before its node can be."""
        deadline = time.monotonic() + _TIMEOUT
        self.execute("block-export-del", id=name, mode="hard")
        while any(export["id"] == name for export in self.execute("query-block-exports")["return"]) and time.monotonic() < deadline:
            time.sleep(0.01)
        self.execute("blockdev-del", **{"node-name": _node(name)})


def _node(name: str) -> str:
    """QEMU's names of nodes have at most 31 characters, those of exports more."""
    return "n" + hashlib.sha256(name.encode()).hexdigest()[:30]


SERVERS: dict[str, type[Program]] = {"nbdkit": Nbdkit, "qemu-nbd": QemuStorageDaemon}
