# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The ways, and what one move in each of them comes to."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from support.fleet import CALLBACKS, Fleet
from support.lab import Lab

from bench.move import critical
from bench.move.meters import Meter
from bench.move.scripts import SCRIPTS, Move, marks
from bench.move.subject import NAME, Subject

PLAYBOOKS = {"kvmfleet": "never", "kvmfleet-precopy": "always"}
WAYS = (*PLAYBOOKS, *SCRIPTS)
TIMEOUT = 1800.0
_BENCH = Path(__file__).resolve().parents[1]
# Ansible runs this instead of ssh, which is how a round trip is counted.
_SSH = """#!/bin/bash
echo "$EPOCHREALTIME" >>"$KVMFLEET_ROUND_TRIPS"
exec ssh "$@"
"""


@dataclass
class Times:
    """Instants of a move, since the epoch, and the seconds that data was copied or made ready to be; where the guest was down for it."""

    down: float
    started: float
    agent: float
    copied: tuple[float, float]
    copy_s: float
    details: dict[str, Any] = field(default_factory=dict)


@dataclass
class Result:
    """One move."""

    way: str
    wire_bytes: int
    sent_bytes: int
    received_bytes: int
    allocated_bytes: int
    copy_s: float
    downtime_s: float
    agent_s: float
    cpu_s: float
    total_s: float
    busy: float | None
    details: dict[str, Any]


def move(subject: Subject, way: str, playing: Playing) -> Result:
    """Restore the guest, move it in one of the ways, and prove that it has moved."""
    subject.restore()
    meter = Meter(subject.pair.cable, subject.pair.namespaces)
    with meter.running():
        began = time.time()
        times = playing.migrate(PLAYBOOKS[way]) if way in PLAYBOOKS else _run(subject, way)
    allocated = subject.allocated_bytes()
    subject.prove()
    return Result(
        way=way,
        wire_bytes=meter.traffic.sent + meter.traffic.received,
        sent_bytes=meter.traffic.sent,
        received_bytes=meter.traffic.received,
        allocated_bytes=allocated,
        copy_s=times.copy_s,
        downtime_s=times.started - times.down,
        agent_s=times.agent - times.down,
        cpu_s=meter.cpu_s,
        total_s=times.agent - began,
        busy=meter.busy(*times.copied),
        details=times.details,
    )


def _run(subject: Subject, way: str) -> Times:
    pair = subject.pair
    script = SCRIPTS[way].text(Move(NAME, subject.disk, subject.base, pair.destination.name, pair.source.address))
    at = marks(pair.run(script))
    return Times(at["down"], at["started"], at["agent"], (at["copy"], at["copied"]), at["copied"] - at["copy"])


class Playing(Fleet):
    """The collection's playbooks on the lab, as the integration tests run them, with the tasks and round trips noted."""

    def __init__(self, directory: Path) -> None:
        super().__init__(Lab(), directory)
        wrapper = directory / "ssh"
        wrapper.write_text(_SSH, encoding="utf-8")
        wrapper.chmod(0o700)
        self.vars["ansible_ssh_executable"] = str(wrapper)
        self._tasks, self._trips = directory / "tasks", directory / "round-trips"

    def environment(self, **more: str) -> dict[str, str]:
        callbacks = {"ANSIBLE_CALLBACK_PLUGINS": f"{CALLBACKS}:{_BENCH / 'callback_plugins'}", "ANSIBLE_CALLBACKS_ENABLED": "record,durations"}
        return super().environment(**callbacks, KVMFLEET_DURATIONS=str(self._tasks), KVMFLEET_ROUND_TRIPS=str(self._trips), **more)

    def warm_up(self) -> None:
        """So that no move pays for connections, and for reading a base that is as it was."""
        self.play("plan", instance=NAME, target_host=self._target).ok()

    def migrate(self, precopy: str) -> Times:
        for log in (self._tasks, self._trips):
            log.unlink(missing_ok=True)
        self.start("migrate", instance=NAME, target_host=self._target, migrate_precopy=precopy).wait(TIMEOUT).ok()
        source, destination = (self._record(host) for host in list(self.lab.hosts)[:2])
        timings, down = destination["timings"], source["stopped"]["requested_at"]
        tasks = [json.loads(line) for line in self._tasks.read_text(encoding="utf-8").splitlines()]
        trips = [float(line.replace(",", ".")) for line in self._trips.read_text(encoding="utf-8").splitlines()]
        return Times(
            down=down,
            started=timings["started_at"],
            agent=destination["came_up"]["agent_at"],
            copied=(timings["began_at"], timings["copied_at"]),
            copy_s=critical.copying(destination),
            details={
                "critical_section": critical.tasks_between(tasks, trips, down, timings["started_at"]),
                "phases": critical.phases(source, destination),
                "tasks": len(tasks),
                "round_trips": len(trips),
            },
        )

    @property
    def _target(self) -> str:
        return list(self.lab.hosts)[1]

    def _record(self, host: str) -> dict[str, Any]:
        return self.lab[host].records()[-1]


@contextmanager
def playing() -> Iterator[Playing]:
    with tempfile.TemporaryDirectory() as directory:
        yield Playing(Path(directory))
