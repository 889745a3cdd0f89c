# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a program of the lab died of itself: what the kernel and the hosts say of it.

A program that a test has killed is none: the kernel names only programs that crash or that it kills for want of memory, and a daemon that
is told to stop removes the file with its process id.
"""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path

from .host import Host
from .host.services import SERVICES, died_script

KERNEL_LOG = Path("/dev/kmsg")
_QEMU = r"(?:qemu-system|CPU \d+/)"
"""Threads of QEMU that emulate a processor have names of their own."""
_CRASH = re.compile(rf"(?:traps: )?{_QEMU}\S*\[\d+\]:? (?:segfault|trap |general protection)|[Kk]illed process \d+ \({_QEMU}")
_CRASHED_GUESTS = "grep -l 'reason=crashed' $(find /var/log/libvirt/qemu -maxdepth 1 -name '*.log' -newermt @{since:.0f}) /dev/null"


class Watch:
    """Looks from its making on; for the time of one test."""

    def __init__(self, hosts: list[Host], since: float, kernel_log: Path = KERNEL_LOG) -> None:
        """:param since: seconds since the epoch."""
        self._hosts = hosts
        self._since = since
        self._log = -1
        with contextlib.suppress(OSError):  # some containers are not shown the kernel's log: nothing is proven there
            self._log = os.open(kernel_log, os.O_RDONLY | os.O_NONBLOCK)
            os.lseek(self._log, 0, os.SEEK_END)

    def close(self) -> None:
        """Look no more."""
        if self._log >= 0:
            os.close(self._log)
            self._log = -1

    def faults(self) -> list[str]:
        """What has died of itself, one sentence each."""
        living = [host for host in self._hosts if host.pid is not None]
        dead = [f"{name} of {host.name} died of itself" for host in living for name in SERVICES if self._says_something(host, died_script(name))]
        crashes = [line for line in self._kernel_lines() if _CRASH.search(line)]
        if not crashes:
            return dead
        # Another lab of the machine may have lost it: this one has only if its libvirt says so, too.
        guests = _CRASHED_GUESTS.format(since=self._since)
        return [*dead, *(f"QEMU crashed on {host.name}: {'; '.join(crashes)}" for host in living if self._says_something(host, guests))]

    @staticmethod
    def _says_something(host: Host, script: str) -> bool:
        return bool(host.run(["sh", "-c", script], check=False).stdout.strip())

    def _kernel_lines(self) -> list[str]:
        lines = []
        while self._log >= 0:
            try:
                line = os.read(self._log, 8192)
            except BlockingIOError:
                break
            except BrokenPipeError:  # the oldest were overwritten meanwhile; reading goes on behind them
                continue
            if not line:
                break
            lines += line.decode(errors="replace").partition(";")[2].splitlines()[:1]
        return lines
