# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The source's end of the channel.

It serves the directory `exports/UUID/files`; every entry is a symlink to one file, or a small document. `exports/UUID/checksum` has
a symlink to each file whose checksum is wanted. A supervisor process owns the NBD server: it makes the checksums of those files one by one while the copy runs,
starts a server that died again, so that the copy can go on, and ends the export when the operation closes it or nobody has read anything for
`idle_timeout` seconds, so that no door stays open behind a dead controller or peer. A connection that reads nothing does not keep it open: in a tunnel
every user of this host can make one, though none that gets past the key.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from typing import Any, NamedTuple

from .._journal.state_dir import StateDir
from .._rules.errors import KvmfleetError
from .._system import sessions as _sessions, whole_file as _whole_file
from .._system.processes import bytes_read
from .checksums import tree
from .listening import listen
from .protocol import CHECKSUM, KEY_FILE, MANIFEST, write_key
from .serving import SERVERS, Program

DEFAULT_PORTS = "49152-49215"
_HELD = "held-"
_START_TIMEOUT = 10.0
_POLL = 0.1
_SUMMING_NICENESS = 5
_SUMMING_STALL = 60.0
_SIGN_OF_LIFE = 64 * 1024  # bytes that the server reads from files; a handshake that fails reads the key again, which is less than a hundred
_RESTARTS = 5


def parse_ports(text: str) -> range:
    """`"49152-49215"` or `"49152"` as a range of TCP ports."""
    first, _dash, last = text.partition("-")
    try:
        ports = range(int(first), int(last or first) + 1)
    except ValueError:
        ports = range(0)
    if not ports or ports[0] < 1024 or ports[-1] > 65535:
        raise KvmfleetError("invalid_ports", f"ports: expected FIRST-LAST within 1024-65535, got {text!r}.", value=text)
    return ports


class Server:
    """The source's end of the channel of one migration."""

    def __init__(self, state: StateDir, uuid: str) -> None:
        self.directory = os.path.join(state.ensure("exports"), uuid)
        self.files = os.path.join(self.directory, "files")
        self.checksum = os.path.join(self.directory, "checksum")

    def open(
        self, *, address: str | None, ports: str, key: str, idle_timeout: float, peer: str | None = None, bandwidth_limit: int = 0, transport: str = "nbdkit"
    ) -> int:
        """Serve the (still empty) directory; a channel left by an earlier run is closed first.

        :param address: the local address to listen on, None for all of the peer's kind; :param key: one-time key, 64 hexadecimal digits.
        :param peer: the only address that is let in; :param bandwidth_limit: bytes a second over all connections, 0 for none.
        :param transport: one of `_channel.serving.TRANSPORTS`.
        :returns: the TCP port.
        """
        self.close()
        os.makedirs(self.files, mode=0o700)
        os.mkdir(self.checksum, 0o700)
        write_key(self._path(KEY_FILE), key)
        spec = {"address": address, "ports": list(parse_ports(ports)), "idle_timeout": idle_timeout, "peer": peer}
        spec.update(bandwidth_limit=bandwidth_limit, transport=transport)
        _sessions.detach(lambda: _Supervisor(self, spec).run())
        where = f"on {address}" if address is not None else f"for {peer}"
        deadline = time.monotonic() + _START_TIMEOUT
        while time.monotonic() < deadline:
            started = self._state()
            if started.get("error"):
                self.close()
                raise KvmfleetError("channel_failed", f"{transport} could not serve {where}: {started['error']}", address=address)
            if started.get("port"):
                return int(started["port"])
            time.sleep(0.02)
        self.close()
        raise KvmfleetError("channel_failed", f"{transport} did not listen {where} within {_START_TIMEOUT:g} s.", address=address)

    @property
    def port(self) -> int | None:
        """The port of a channel that is being served now, else None."""
        state = self._state()
        return int(state["port"]) if state.get("port") and _alive(state) else None

    def offer_file(self, name: str, path: str, checksum: bool = False, held: bool = False) -> None:
        """Offer a file under a name; what bore the name before, and its checksum, is withdrawn first.

        :param checksum: let the supervisor make its checksum and offer that as the document `digest-NAME`.
        :param held: offer a copy instead, for a small file in a directory of another user: the server opens what it offers by name, whatever that is then.
        """
        self.withdraw_file(name)
        if held:
            _whole_file.copy(path, self._path(_HELD + name))
            path = self._path(_HELD + name)
        os.symlink(path, os.path.join(self.files, name))
        self._program.show(name)
        if checksum:
            os.symlink(path, os.path.join(self.checksum, name))

    def withdraw_file(self, name: str) -> bool:
        """Take back a file that was offered, and its checksum; who has it open reads on, but for a server of QEMU. False where it was not offered."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(os.path.join(self.checksum, name))
        offered = _hide(self._program, name)
        _hide(self._program, CHECKSUM + name)
        return offered

    def offer_document(self, name: str, document: dict[str, Any]) -> None:
        """Offer a small document, in place of what bore the name before."""
        _publish(self.files, name, document)
        self._program.show(name)

    def offer_manifest(self, manifest: dict[str, Any]) -> None:
        """Offer the manifest; the supervisor then makes the checksums of all files named in `manifest["files"]`."""
        self.offer_document(MANIFEST, manifest)
        for name in manifest["files"]:
            with contextlib.suppress(FileExistsError):
                os.symlink(os.readlink(os.path.join(self.files, name)), os.path.join(self.checksum, name))

    def close(self) -> bool:
        """End the export and remove its directory; False where there was none."""
        if not os.path.isdir(self.directory):
            return False
        state = self._state()
        if _alive(state):
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(state["pid"]), signal.SIGTERM)
            deadline = time.monotonic() + _START_TIMEOUT
            while _alive(state) and time.monotonic() < deadline:
                time.sleep(0.02)
            if _alive(state):
                os.kill(int(state["pid"]), signal.SIGKILL)
        shutil.rmtree(self.directory, ignore_errors=True)
        return True

    def _path(self, name: str) -> str:
        return os.path.join(self.directory, name)

    @property
    def _program(self) -> Program:
        return SERVERS[self._state().get("transport", "nbdkit")](self.directory)

    def _state(self) -> dict[str, Any]:
        try:
            with open(self._path("state.json"), encoding="utf-8") as stream:
                return json.load(stream)
        except (FileNotFoundError, ValueError):
            return {}


class _Wish(NamedTuple):
    """A symlink in the directory `checksum`; inodes are used again, so it takes the time too to tell one from the next of its name."""

    made_ns: int
    inode: int
    name: str


def _wish(entry: os.DirEntry[str]) -> _Wish:
    status = entry.stat(follow_symlinks=False)
    return _Wish(status.st_mtime_ns, status.st_ino, entry.name)


def _is_wished(path: str, wish: _Wish) -> bool:
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return False
    return (status.st_mtime_ns, status.st_ino) == (wish.made_ns, wish.inode)


class _Supervisor:
    """The detached process that owns the NBD server of one channel."""

    def __init__(self, server: Server, spec: dict[str, Any]) -> None:
        self.server = server
        self.spec = spec
        self.listener: socket.socket
        self.program = SERVERS[spec["transport"]](server.directory)
        self.process: subprocess.Popen[bytes]
        self.summing: threading.Thread | None = None
        self.summing_since = 0.0
        self.summed: set[_Wish] = set()

    def run(self) -> None:
        _sessions.leave(f"kvmfleet-export-{os.path.basename(self.server.directory)}")
        try:
            self.listener = listen(self.spec["address"], self.spec["ports"], self.spec["peer"], self.spec["idle_timeout"])
            self._serve()
        except (OSError, KvmfleetError) as exc:
            self._say(error=str(exc))
            return
        signal.signal(signal.SIGTERM, lambda *_args: self._end())
        port = self.listener.getsockname()[1]
        self._say(port=port, transport=self.spec["transport"])
        self._watch()

    def _serve(self) -> None:
        self.process = self.program.start(self.listener, self.spec["bandwidth_limit"])

    def _watch(self) -> None:
        idle_since, restarts, seen = time.monotonic(), 0, 0
        while os.path.isdir(self.server.files):
            if self.process.poll() is not None:
                if restarts == _RESTARTS:
                    break
                restarts += 1
                with contextlib.suppress(KvmfleetError):
                    self._serve()
            wanted = None if self._is_summing() else self._next_checksum()
            if wanted:
                self.summed.add(wanted)
                self.summing_since = time.monotonic()
                self.summing = threading.Thread(target=self._checksum, args=(wanted,), name=wanted.name, daemon=True)
                self.summing.start()
            read = bytes_read(self.process.pid)
            if self._is_summing() or read >= seen + _SIGN_OF_LIFE or read < seen:
                idle_since, seen = time.monotonic(), read
            elif time.monotonic() - idle_since > self.spec["idle_timeout"]:
                break
            time.sleep(_POLL)
        self._end()

    def _is_summing(self) -> bool:
        """Whether a checksum is being made. Whoever waits for one that stopped is told so, in its place."""
        if self.summing is None or not self.summing.is_alive():
            return False
        if time.monotonic() - self.summing_since <= _SUMMING_STALL:
            return True
        self._offer_checksum(self.summing.name, {"error": f"reading it made no progress for {_SUMMING_STALL:g} s"})
        self.summing = None
        return False

    def _next_checksum(self) -> _Wish | None:
        """The oldest wish for a checksum that has not been looked at."""
        with contextlib.suppress(FileNotFoundError):
            return min((wish for wish in map(_wish, os.scandir(self.server.checksum)) if wish not in self.summed), default=None)
        return None

    def _checksum(self, wish: _Wish) -> None:
        # The copy goes first: on Linux the niceness is a thread's own.
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _SUMMING_NICENESS)
        path = os.path.join(self.server.checksum, wish.name)
        try:
            document = tree(os.path.realpath(path), on_progress=self._progressed)
        except OSError as exc:
            document = {"error": str(exc)}
        self._offer_checksum(wish.name, document)
        # What was withdrawn meanwhile must not leave its checksum to the next file of that name, which this thread's successor looks at.
        if not _is_wished(path, wish):
            _hide(self.program, CHECKSUM + wish.name)

    def _progressed(self, _bytes: int) -> None:
        self.summing_since = time.monotonic()

    def _offer_checksum(self, name: str, document: dict[str, Any]) -> None:
        _publish(self.server.files, CHECKSUM + name, document)
        with contextlib.suppress(KvmfleetError):  # of a server that is started again, which is shown it then
            self.program.show(CHECKSUM + name)

    def _end(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(timeout=2)
            except subprocess.TimeoutExpired:
                self.process.kill()
        shutil.rmtree(self.server.directory, ignore_errors=True)
        os._exit(0)

    def _say(self, **what: Any) -> None:
        _publish(self.server.directory, "state.json", dict(what, pid=os.getpid(), started=_start_time(os.getpid())))


def _publish(directory: str, name: str, document: dict[str, Any]) -> None:
    """Let a complete document appear at once; the temporary file lies one level up, where the export does not show it."""
    temporary = os.path.join(os.path.dirname(directory), f".{name}.{os.getpid()}.tmp")
    _whole_file.write(os.path.join(directory, name), json.dumps(document).encode(), durable=False, through=temporary)


def _hide(program: Program, name: str) -> bool:
    """Take an entry out of the export; False where it was not in it."""
    try:
        os.unlink(os.path.join(program.files, name))
    except FileNotFoundError:
        return False
    program.hide(name)
    return True


def _start_time(pid: int) -> str | None:
    """Field 22 of /proc/PID/stat: tells a process from a later one with the same pid. None too where only its exit status is left."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as stream:
            fields = stream.read().rpartition(")")[2].split()
            return None if fields[0] == "Z" else fields[19]
    except (FileNotFoundError, ProcessLookupError):
        return None


def _alive(state: dict[str, Any]) -> bool:
    return bool(state.get("pid")) and _start_time(int(state["pid"])) == state.get("started")
