# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A run of which every task is a point at which something happens, on a guest that goes through it again and again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lab.bases import DEFAULT_NAME

from .faults import QUICK, Subject, Task, play_to_death, tasks_of
from .fleet import Fleet
from .guest import Guest, Guests
from .lab import IMAGES, Lab

WEB = {"instance": "web", **QUICK}
MOVE = {**WEB, "flavor": "medium", "resize_allow_resize_to_same_host": False}
AHEAD = {**MOVE, "migrate_precopy": "always"}
IN_PLACE = {**WEB, "flavor": "medium", "target_host": "kvm1"}
STARTED = "Move | Note at the source that it is finished"
CLAIMED_IN_PLACE = "In place | Stop, prove off, layer, define and start with the new flavor"


@dataclass(frozen=True, eq=False)
class Scenario:
    """A run that something happens to: a playbook, on a guest that runs or not, after a resize that ended or was itself interrupted before a task.

    :param base_missing: whether the base of the guest has to be fetched by the destination, which takes as many tasks as all the rest.
    """

    verb: str
    extra: dict[str, Any]
    resized: dict[str, Any] | None = None
    died_before: str | None = None
    running: bool = True
    base_missing: bool = False


_points: dict[Scenario, list[Task]] = {}


class Sweep:
    """One guest that goes through a scenario again and again; another one where that was confirmed."""

    def __init__(self, lab: Lab, guests: Guests, fleet: Fleet, scenario: Scenario) -> None:
        self.lab, self.guests, self.fleet, self.scenario = lab, guests, fleet, scenario
        self.subject: Subject | None = None

    def make(self) -> Guest:
        """The guest, which runs and has booted."""
        return self.guests.create("web", "kvm1")

    def end(self, verb: str) -> None:
        """What still waits is settled by `verb`, after which nothing is open and the guest is whole."""
        raise NotImplementedError

    def begin_anew(self) -> None:
        """Forget all that a point has left."""
        self.guests.delete_all()
        self.lab.reset()
        self.subject = None

    def begin(self) -> None:
        """Bring the guest to where the run starts; once more if that fails, since an emulated guest's QEMU crashes by itself once in hundreds of boots."""
        try:
            self._begin()
        except Exception:
            self.begin_anew()
            self._begin()

    def _begin(self) -> None:
        if self.subject is None or self.subject.guest.hosts != ["kvm1"]:
            self.begin_anew()
            self.lab.call("base", "remove" if self.scenario.base_missing else "put", DEFAULT_NAME, "--host", "kvm2", check=False)
            guest = self.make()
            self.subject = Subject(self.lab, guest, guest.write())
            if not self.scenario.running:
                guest.shut_down()
        self.lab["kvm2"].sh(f"rm -rf {IMAGES}/_base")  # a base that was fetched already would change the tasks of the run
        resized, died_before = self.scenario.resized, self.scenario.died_before
        if resized and died_before:
            assert play_to_death(self.fleet, died_before, "resize", **resized)
        elif resized:
            self.fleet.play("resize", **resized).ok()

    def points(self) -> list[Task]:
        """The tasks that act on a host from the first record of the operation on."""
        if self.scenario not in _points:
            self.begin()
            tasks = tasks_of(self.fleet, self.scenario.verb, **self.scenario.extra)
            self.end("revert")
            first = next(task.number for task in tasks if task.action == "kvmfleet.compute.migration")
            _points[self.scenario] = [task for task in tasks if task.number >= first and task.action.startswith("kvmfleet.compute.")]
        return _points[self.scenario]
