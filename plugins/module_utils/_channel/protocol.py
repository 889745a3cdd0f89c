# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The channel: files of one operation, served read-only over NBD with TLS and a one-time key, from source to destination.

`_channel.export` is the source's end, `_channel.serving` the program that it serves with, `_channel.pull` the destination's end; here is what they agree on.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import time
from collections.abc import Callable
from typing import Any

from .._rules.errors import KvmfleetError
from .._system import whole_file as _whole_file
from .._system.processes import die_with_parent, kill

USER = "kvmfleet"
KEY_FILE = "keys.psk"  # the name that QEMU looks for
MANIFEST = "manifest"
DEFINITION = "definition"  # the document with that of the guest while it still runs, to be tried
CHECKSUM = "digest-"  # with the name of an export: the document with its checksums
_GREETING = b"NBDMAGIC"
_START_TIMEOUT = 60.0


def write_key(path: str, key: str) -> None:
    _whole_file.write(path, f"{USER}:{key}\n".encode("ascii"), durable=False)


def unreachable(address: str, port: int, timeout: float) -> str | None:
    """Why an NBD server cannot be reached from here, or None where it greets."""
    deadline = time.monotonic() + timeout
    try:
        with socket.create_connection((address, port), timeout) as connection:
            greeting = b""
            while len(greeting) < len(_GREETING):
                connection.settimeout(max(0.01, deadline - time.monotonic()))
                received = connection.recv(len(_GREETING) - len(greeting))
                if not received:
                    return "the connection was closed at once"
                greeting += received
    except OSError as exc:
        return str(exc)
    return None if greeting == _GREETING else "something else than an NBD server answers"


def start_server(command: list[str], *, pidfile: str, log: str, failure: Callable[[str], KvmfleetError], **options: Any) -> subprocess.Popen[bytes]:
    """Start a server that writes its pidfile once it answers, and wait for that, a minute at most; it dies with the thread that starts it.

    :param failure: the error to raise, given its last words, if it ends instead; :param options: those of Popen.
    """
    with contextlib.suppress(FileNotFoundError):
        os.unlink(pidfile)
    with open(log, "wb") as stream:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream, preexec_fn=die_with_parent, **options)
    deadline = time.monotonic() + _START_TIMEOUT
    while not os.path.exists(pidfile):
        if process.poll() is not None:
            raise failure(last_line(log))
        if time.monotonic() > deadline:
            kill(process)
            raise failure(f"it was not ready within {_START_TIMEOUT:g} s")
        time.sleep(0.005)
    return process


def last_line(path: str) -> str:
    with open(path, encoding="utf-8", errors="replace") as stream:
        lines = [line.strip() for line in stream.read()[-4096:].splitlines() if line.strip()]
    return lines[-1] if lines else "no message"
