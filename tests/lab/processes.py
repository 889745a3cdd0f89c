# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab's processes: known by a mark in their environment, never by their name."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from .errors import LabError

LAB_MARK = "KVMFLEET_LAB_ID"
HOST_MARK = "KVMFLEET_LAB_HOST"
DEATH_TIMEOUT = 15.0


@dataclass(frozen=True)
class Process:
    """A living process of the lab."""

    pid: int
    host: str | None
    is_host_init: bool


def marked_environment(lab_id: str, host: str | None = None) -> dict[str, str]:
    """Environment that makes a process part of the lab."""
    return {**os.environ, LAB_MARK: lab_id, **({HOST_MARK: host} if host else {})}


def lab_processes(lab_id: str) -> list[Process]:
    """Every process that carries the lab's mark, except this one."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            process = _inspect(entry, lab_id)
            if process:
                found.append(process)
    return found


def host_init(lab_id: str, host: str) -> int | None:
    """Process id of a living host's first process."""
    return next((process.pid for process in lab_processes(lab_id) if process.is_host_init and process.host == host), None)


def kill_host(lab_id: str, host: str) -> None:
    """Kill a host's first process; the kernel takes everything inside with it."""
    _kill_until_gone(lambda: [process for process in lab_processes(lab_id) if process.host == host])


def kill_stragglers(lab_id: str) -> None:
    """Kill what a killed `up` left running outside the hosts."""
    _kill_until_gone(lambda: [process for process in lab_processes(lab_id) if process.host is None])


def kill_all(lab_id: str) -> None:
    """Kill every process of the lab."""
    _kill_until_gone(lambda: lab_processes(lab_id))


def _kill_until_gone(find: Callable[[], list[Process]]) -> None:
    deadline = time.monotonic() + DEATH_TIMEOUT
    while True:
        processes = find()
        if not processes:
            return
        if time.monotonic() > deadline:
            raise LabError(f"processes of the lab do not die: {', '.join(str(process.pid) for process in processes)}")
        for process in sorted(processes, key=lambda process: not process.is_host_init):
            try:
                os.kill(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        time.sleep(0.05)


def _inspect(entry: Path, lab_id: str) -> Process | None:
    try:
        variables = dict(item.split("=", 1) for item in (entry / "environ").read_bytes().decode(errors="replace").split("\0") if "=" in item)
        if variables.get(LAB_MARK) != lab_id:
            return None
        status = dict(line.split(":", 1) for line in (entry / "status").read_text().splitlines() if ":" in line)
    except (FileNotFoundError, PermissionError, ProcessLookupError):
        return None
    if status["State"].strip().startswith("Z"):
        return None
    namespace_pids = status["NSpid"].split()
    return Process(int(entry.name), variables.get(HOST_MARK), len(namespace_pids) > 1 and namespace_pids[-1] == "1")
