# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A process that stays when the login ends in which it was started.

systemd-logind ends all that is left in the scope of a login (KillUserProcesses=yes), also what has become a daemon there, and a run's ssh logs out
whenever nothing was said for a minute.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import time
from collections.abc import Callable

from .._rules.errors import KvmfleetError
from . import processes as _processes

_BOOTED = "/run/systemd/system"  # as sd_booted(3) tells
_CGROUP = "/proc/self/cgroup"
_LOGIN = re.compile(r"/user\.slice/|/session-[^/]*\.scope")
_MANAGER = ("org.freedesktop.systemd1", "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager")
_TIMEOUT = 5.0


def detach(work: Callable[[], None]) -> None:
    """Run `work` in a process of its own that holds nothing of the module's (no stdio, no libvirt socket, no lock)."""
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        return
    try:
        for number in (signal.SIGHUP, signal.SIGUSR1):  # of the run that it outlives
            signal.signal(number, signal.SIG_DFL)
        os.setsid()
        if os.fork():
            os._exit(0)
        os.chdir("/")
        os.umask(0o077)
        null = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(null, descriptor)
        for descriptor in [int(name) for name in os.listdir("/proc/self/fd")]:
            if descriptor > 2:
                with contextlib.suppress(OSError):
                    os.close(descriptor)
        work()
    finally:
        os._exit(0)


def leave(name: str) -> bool:
    """Move this process, and all that it will start, into a scope of its own; False where it does not belong to a login, or systemd does not let it.

    :param name: of the scope, for people.
    """
    if not os.path.isdir(_BOOTED) or not _belongs_to_login():
        return False
    properties = ["PIDs", "au", "1", str(os.getpid()), "CollectMode", "s", "inactive-or-failed"]
    call = ["StartTransientUnit", "ssa(sv)a(sa(sv))", f"{name}-{os.getpid()}.scope", "fail", "2", *properties, "0"]
    with contextlib.suppress(OSError, KvmfleetError):
        asked = _processes.run(["busctl", f"--timeout={_TIMEOUT:g}", "call", *_MANAGER, *call], stall=2 * _TIMEOUT)
        deadline = time.monotonic() + _TIMEOUT
        while asked.returncode == 0 and time.monotonic() < deadline:
            if not _belongs_to_login():
                return True
            time.sleep(0.02)
    return False


def _belongs_to_login() -> bool:
    with contextlib.suppress(OSError), open(_CGROUP, encoding="utf-8", errors="replace") as stream:
        return bool(_LOGIN.search(stream.read()))
    return False
