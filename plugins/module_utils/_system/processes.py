# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Processes that are waited for only as long as they get on, and ended with all that they have started.

What a process does shows in /proc: time of a processor, calls that moved bytes, and how often a thread of it was put to sleep. None of that grows while
it waits for a libvirtd or a network file system that does not answer, however long; all of it grows in a copy that takes hours.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import resource
import signal
import subprocess
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

from .._rules.errors import KvmfleetError

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None)
STALL = 60.0  # seconds for which a program may do nothing
_POLL = 0.5
_END_TIMEOUT = 5.0


class Bounds(NamedTuple):
    """What a process may take at most: bytes of its address space, and seconds of a processor."""

    address_space: int
    cpu: int


def die_with_parent() -> None:
    """In a child, before it becomes another program: be killed when the thread ends that started it."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def run(command: Sequence[str], *, stall: float = STALL, what: str = "", bounds: Bounds | None = None, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a program to its end and keep what it said; it dies with the thread that starts it.

    :param stall: seconds for which it may do nothing; :param what: what it works on, for the message; :param options: those of Popen.
    :raises KvmfleetError: `tool_stalled`; the program was killed, and ends as soon as the kernel lets it.
    """

    def prepare() -> None:
        die_with_parent()
        if bounds is not None:
            _confine(resource.RLIMIT_CPU, bounds.cpu)
            _confine(resource.RLIMIT_AS, bounds.address_space)

    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        errors="replace",
        preexec_fn=prepare,
        **options,
    )
    watch = Watch(process.pid)
    try:
        while watch.silence() <= stall:
            with contextlib.suppress(subprocess.TimeoutExpired):
                said, errors = process.communicate(timeout=min(_POLL, stall))
                return subprocess.CompletedProcess(command, process.returncode, said, errors)
    finally:
        ended = process.returncode is not None or kill(process)
    rest = "" if ended else ", and the kernel does not let it end"
    raise KvmfleetError(
        "tool_stalled",
        f"{' '.join(filter(None, (command[0], what)))} did nothing for {stall:g} s{rest}: look at the storage that it works on, a network file system first.",
        tool=command[0],
        seconds=stall,
    )


def kill(process: subprocess.Popen[Any]) -> bool:
    """Kill a process; False where the kernel holds it for longer than a few seconds, so that it ends later, without running another instruction."""
    process.kill()
    try:
        process.wait(timeout=_END_TIMEOUT)
    except subprocess.TimeoutExpired:
        return False
    return True


class Watch:
    """How long a process and all below it have done nothing."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._seen: dict[str, str] = {}
        self._since = time.monotonic()

    def silence(self) -> float:
        """Seconds since it was last seen to do anything, this look included."""
        now = time.monotonic()
        seen = {path: text for pid in below(self.pid) for path, text in _activity(pid)}
        if seen != self._seen:
            self._seen, self._since = seen, now
        return now - self._since


def below(pid: int) -> list[int]:
    """A process and all that descend from it, as far as they have not left it, from the top."""
    found = [pid]
    for parent in found:
        for task in _entries(f"/proc/{parent}/task"):
            found += [int(child) for child in _text(f"/proc/{parent}/task/{task}/children").split()]
    return found


def state(pid: int) -> tuple[str | None, str]:
    """The state letter of a process, None where it is gone, and where in the kernel it waits."""
    stat = _text(f"/proc/{pid}/stat").rpartition(")")[2].split()
    return (stat[0] if stat and stat[0] not in "ZX" else None), _text(f"/proc/{pid}/wchan")


def bytes_read(pid: int) -> int:
    """Bytes that a process has read from files so far; what it receives from a socket is not among them. 0 where it is gone."""
    found = re.search(r"^rchar: (\d+)", _text(f"/proc/{pid}/io"), re.MULTILINE)
    return int(found[1]) if found else 0


def command_line(pid: int) -> str:
    """The program of a process, without its directory and arguments, which may hold a path of a guest."""
    return os.path.basename(_text(f"/proc/{pid}/cmdline").partition("\0")[0])


def _activity(pid: int) -> list[tuple[str, str]]:
    """Counters of one process that stand still when all of its threads wait for one and the same thing."""
    found = [(f"{pid}/io", _text(f"/proc/{pid}/io"))]
    for task in _entries(f"/proc/{pid}/task"):
        stat = _text(f"/proc/{pid}/task/{task}/stat").rpartition(")")[2].split()
        switches = [line for line in _text(f"/proc/{pid}/task/{task}/status").splitlines() if "ctxt_switches" in line]
        found.append((f"{pid}/{task}", " ".join([*stat[11:13], *switches])))
    return found


def _entries(directory: str) -> list[str]:
    with contextlib.suppress(OSError):
        return os.listdir(directory)
    return []


def _text(path: str) -> str:
    """The text of a file in /proc; empty where the process is gone, or the kernel does not tell."""
    with contextlib.suppress(OSError), open(path, encoding="utf-8", errors="replace") as stream:
        return stream.read()
    return ""


def _confine(what: int, most: int) -> None:
    hard = resource.getrlimit(what)[1]
    limit = most if hard == resource.RLIM_INFINITY else min(most, hard)
    resource.setrlimit(what, (limit, limit))
