# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every task of every kind of run, taken from the run itself, is a point at which something dies. No guest is lost at any of them."""

from __future__ import annotations

import re
import traceback
from collections.abc import Callable, Iterator

import pytest
from lab.bases import DEFAULT_NAME
from support.faults import SWITCH, Task, impatient, kill_modules, kill_ssh_masters, play_and_strike, play_to_death
from support.fleet import Fleet
from support.guest import Guests
from support.lab import Lab
from support.sweep import AHEAD, CLAIMED_IN_PLACE, IN_PLACE, MOVE, STARTED, WEB, Scenario, Sweep

OUTCOMES = (
    "web is as before on kvm",
    "The operation (is|was) finished",
    "The operation could NOT be undone yet, run kvmfleet.compute.recover",
    "The operation could NOT be undone yet: kvm. does not answer .+ run kvmfleet.compute.recover then",
    "The operation .+ on web is still open",
    "web: .+ is unreachable",
)


SCENARIOS = {
    "resize": Scenario("resize", MOVE, base_missing=True),
    "resize, stopped guest": Scenario("resize", MOVE, running=False),
    "resize, pre-copy": Scenario("resize", AHEAD),
    "resize in place": Scenario("resize", IN_PLACE),
    "migrate": Scenario("migrate", WEB),
    "confirm": Scenario("confirm", WEB, MOVE),
    "confirm, in place": Scenario("confirm", WEB, IN_PLACE),
    "confirm, pre-copy": Scenario("confirm", WEB, AHEAD),
    "revert": Scenario("revert", WEB, MOVE),
    "revert, pre-copy": Scenario("revert", WEB, AHEAD),
    "revert, in place": Scenario("revert", WEB, IN_PLACE),
    "recover, back": Scenario("recover", WEB, MOVE, SWITCH),
    "recover, back, pre-copy": Scenario("recover", WEB, AHEAD, SWITCH),
    "recover, forward": Scenario("recover", WEB, MOVE, STARTED),
    "recover, in place": Scenario("recover", WEB, IN_PLACE, CLAIMED_IN_PLACE),
}
# A host takes long to come back: one kind of each run, the one with the most tasks.
WITHOUT_A_HOST = ("resize, pre-copy", "resize in place", "confirm", "revert", "recover, back", "recover, forward", "recover, in place")


class CrashSweep(Sweep):
    """After each death the guest is whole."""

    def __init__(self, lab: Lab, guests: Guests, fleet: Fleet, scenario: Scenario) -> None:
        super().__init__(lab, guests, fleet, scenario)
        self.power_lost = False

    def end(self, verb: str) -> None:
        """The guest is whole; settle what still waits, after which nothing is open."""
        self._stands()
        if any(record["status"] == "finished" for host in self.lab.hosts.values() for record in host.records()):
            self.fleet.play(verb, **WEB).ok()
            self._stands()
        if not self.scenario.running:
            self.subject.guest.host.virsh("start", "web")
            self.subject.runs_once_with_its_data()
            self.subject.guest.host.virsh("destroy", "web")
        self.subject.nothing_open()
        if verb == "confirm" or self.scenario.verb == "confirm":
            self.subject = None  # it has another flavor

    def _stands(self) -> None:
        """One host has it, which runs it with its data, or has it off where it was off before."""
        if not self.scenario.running:
            assert len(self.subject.guest.hosts) == 1
            assert self.subject.running_on == []
            return
        if self.power_lost and not self.subject.running_on:
            self.subject.guest.host.virsh("start", "web")
        self.subject.runs_once_with_its_data()

    def survives(self, dies: Callable[[CrashSweep, Task], None], task: Task, again: str, verb: str) -> None:
        """Let it die in a task, run a playbook again, and settle what waits with `verb`."""
        self.begin()
        dies(self, task)
        self._ends(again)
        self.end(verb)

    def _ends(self, again: str) -> None:
        """The playbook ends what the run left. A guest that went off with its host has to be started for a confirm, which proves it first."""
        extra = self.scenario.extra if again == self.scenario.verb else WEB
        run = self.fleet.play(again, **extra)
        if run.rc and again == "confirm" and self.power_lost:
            assert "It ran before. The source copy is kept; start or repair the guest, or revert." in run.error
            self._stands()
            run = self.fleet.play(again, **extra)
        run.ok()


def _struck(sweep: CrashSweep, task: Task, strike: Callable[[], None]) -> None:
    """The run is struck in the middle of the task. If that fails it, it says what has become of the guest or of the operation."""
    run = play_and_strike(sweep.fleet, task, strike, sweep.scenario.verb, **sweep.scenario.extra)
    if run.rc:
        assert any(re.search(outcome, run.error, re.DOTALL) for outcome in OUTCOMES), run.output


def _controller(sweep: CrashSweep, task: Task) -> None:
    """SIGKILL between the tasks: right after this one."""
    assert play_to_death(sweep.fleet, task.number + 1, sweep.scenario.verb, **sweep.scenario.extra)


def _connections(sweep: CrashSweep, task: Task) -> None:
    _struck(sweep, task, lambda: kill_ssh_masters(sweep.lab))


def _module(sweep: CrashSweep, task: Task) -> None:
    _struck(sweep, task, lambda: kill_modules(sweep.lab))


def _host(name: str) -> Callable[[CrashSweep, Task], None]:
    """The whole host dies in the middle of the task, and comes back when the run has ended; a guest that ran there is off then."""

    def dies(sweep: CrashSweep, task: Task) -> None:
        if not sweep.power_lost:
            impatient(sweep.lab, sweep.fleet)
        sweep.power_lost = True
        try:
            _struck(sweep, task, lambda: sweep.lab.call("host", "kill", name))
        finally:
            sweep.lab.call("host", "start", name)

    return dies


DEATHS = {"controller": _controller, "connections": _connections, "module": _module, "source": _host("kvm1"), "destination": _host("kvm2")}
# With the turn of each, so that what is tried after one death of a task is not what is tried after the next.
SWEEPS = {
    f"{scenario}-{death}": (SCENARIOS[scenario], dies, turn)
    for scenario in SCENARIOS
    for turn, (death, dies) in enumerate(DEATHS.items())
    if death not in ("source", "destination") or scenario in WITHOUT_A_HOST
}


@pytest.fixture
def sweep(lab: Lab, guests: Guests, fleet: Fleet, scenario: Scenario) -> Iterator[CrashSweep]:
    yield CrashSweep(lab, guests, fleet, scenario)
    lab.call("base", "remove", DEFAULT_NAME, "--host", "kvm2", check=False)


@pytest.mark.invariant(1, 4)
@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("scenario", "dies", "first"), SWEEPS.values(), ids=SWEEPS)
def test_crash_sweep(sweep: CrashSweep, scenario: Scenario, dies: Callable[[CrashSweep, Task], None], first: int, request: pytest.FixtureRequest) -> None:
    """After each, recover, or the same again, and then confirm or revert: one guest, once, with its data, and nothing left."""
    lost = []
    for turn, task in enumerate(sweep.points(), first):
        request.node.user_properties.append(("crash sweep", "tried"))
        again, verb = ("recover", scenario.verb)[turn % 2], ("revert", "confirm")[turn % 3 == 2]
        try:
            sweep.survives(dies, task, again, verb)
        except Exception:
            lost.append(f"{task.name}, {again}, {verb}:\n{traceback.format_exc()}")
            sweep.begin_anew()
        else:
            request.node.user_properties.append(("crash sweep", "survived"))
    assert not lost, "\n\n".join(lost)
