# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""This run of Ansible, as what was gathered in it names it; and whose clock tells its time."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import platform
import subprocess
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path


@dataclass(frozen=True)
class Run:
    """A run.

    :param name: no other run has it; :param clock: the machine whose clock it is, until that starts again; :param now: the time by that clock.
    """

    name: str
    clock: str
    now: float


def this() -> Run:
    """The run that this code is part of, in whichever of its processes."""
    clock, process = _clock(), _process()
    return Run(f"{clock}.{process}.{_started(process)}", clock, time.time())


@cache
def _clock() -> str:
    """The boot of the kernel, which has the clock, whatever containers call themselves."""
    with contextlib.suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return platform.node()


def _process() -> int:
    """Ansible's own process. It makes a worker for each task, which names it as its parent."""
    worker, parent = multiprocessing.current_process(), multiprocessing.parent_process()
    return parent.pid if parent is not None and parent.pid is not None and type(worker).__name__ == "WorkerProcess" else os.getpid()


@cache
def _started(process: int) -> str:
    """When a process began, since numbers of processes are used again."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{process}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[19]
    told = subprocess.run(["ps", "-o", "lstart=", "-p", str(process)], check=False, capture_output=True, text=True, timeout=10)
    return "-".join(told.stdout.split())
