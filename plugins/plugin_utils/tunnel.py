# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A way through ssh for a channel whose port is closed: an ssh of the controller to each host, joined by a socket in a directory of its own.

    destination, a port of its loopback  <-  controller, the socket  <-  source, the port of the channel on its loopback

Each ssh has a guard, this file run as a program. It ends its ssh as soon as the run that wanted it, or the directory, is gone.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

ENDS = ("source", "destination")
LOOPBACK = "127.0.0.1"
PREFIX = "kvmfleet-tunnel-"
_POLL = 0.1
_TIMEOUT = 30.0
_PR_SET_PDEATHSIG = 1
_SOCKET = "channel"
_PORT = re.compile(r"Allocated port (\d+) for remote forward")
# The first value of an option counts, so these come before what Ansible says of the host. What travels is encrypted already and does not shrink.
_OPTIONS = ("ControlMaster=no", "ControlPath=none", "BatchMode=yes", "ExitOnForwardFailure=yes", "Compression=no", "LogLevel=INFO", "ForwardAgent=no")
_ALIVE = ("ServerAliveInterval=15", "ServerAliveCountMax=4")


def new_directory() -> str:
    """A directory for one tunnel, which only this user may enter; the path of a socket is short."""
    return tempfile.mkdtemp(prefix=PREFIX)


def lead_in(directory: str, ssh: list[str], host: str, port: int, run: int) -> None:
    """Lead the channel of the source, at a port of its loopback, to the socket.

    :param ssh: command that reaches the host, without its name; :param run: the process that wants the tunnel.
    """
    socket = os.path.join(directory, _SOCKET)
    _start(directory, "source", [*_with_options(ssh), "-L", f"{socket}:{LOOPBACK}:{port}", host], run, lambda _log: os.path.exists(socket))


def lead_out(directory: str, ssh: list[str], host: str, run: int) -> int:
    """Lead the socket to the destination, as `lead_in`; the port of its loopback, which it chooses."""
    log = _start(directory, "destination", [*_with_options(ssh), "-R", f"{LOOPBACK}:0:{os.path.join(directory, _SOCKET)}", host], run, _PORT.search)
    return int(_PORT.search(log)[1])


def close(directory: str) -> bool:
    """End both ends, and wait until they have; False where there was no such tunnel."""
    if not os.path.basename(directory).startswith(PREFIX) or not os.path.isdir(directory):
        return False
    with contextlib.ExitStack() as stack:
        locks = []
        for end in ENDS:
            with contextlib.suppress(FileNotFoundError):
                locks.append(stack.enter_context(open(_lock(directory, end))))
        shutil.rmtree(directory, ignore_errors=True)
        deadline = time.monotonic() + _TIMEOUT
        while not all(map(_free, locks)) and time.monotonic() < deadline:
            time.sleep(_POLL)
    return True


def guard(run: int, directory: str, end: str, ssh: list[str]) -> None:
    """Keep an ssh alive for as long as the run and the directory are there."""
    with open(_lock(directory, end), "w") as lock, open(_log(directory, end), "wb") as log:
        fcntl.flock(lock, fcntl.LOCK_EX)
        process = subprocess.Popen(ssh, stdin=subprocess.DEVNULL, stdout=log, stderr=log, preexec_fn=_die_with_parent)
        try:
            while process.poll() is None and os.path.isdir(directory) and _alive(run):
                time.sleep(_POLL)
        finally:
            process.kill()
            process.wait()
            if not _alive(run):
                shutil.rmtree(directory, ignore_errors=True)


def _start(directory: str, end: str, ssh: list[str], run: int, ready: Callable[[str], object]) -> str:
    process = subprocess.Popen(
        [sys.executable, "-I", __file__, str(run), directory, end, *ssh],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    deadline = time.monotonic() + _TIMEOUT
    log = ""
    while time.monotonic() < deadline:
        ended = process.poll() is not None
        with contextlib.suppress(FileNotFoundError), open(_log(directory, end), encoding="utf-8", errors="replace") as stream:
            log = stream.read()
        if ended:
            raise ConnectionError((log.strip().splitlines() or ["ssh ended without a word"])[-1])
        if ready(log):
            return log
        time.sleep(_POLL)
    process.terminate()
    raise ConnectionError(f"ssh was not ready within {_TIMEOUT:g} s")


def _with_options(ssh: list[str]) -> list[str]:
    return [ssh[0], "-N", "-T", *(word for option in _OPTIONS for word in ("-o", option)), *ssh[1:], *(word for option in _ALIVE for word in ("-o", option))]


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    return True


def _free(lock: object) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _lock(directory: str, end: str) -> str:
    return os.path.join(directory, end + ".lock")


def _log(directory: str, end: str) -> str:
    return os.path.join(directory, end + ".log")


def _die_with_parent() -> None:
    """Where the system knows how; a guard that is killed leaves its ssh behind elsewhere."""
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_args: sys.exit(1))
    guard(int(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4:])
