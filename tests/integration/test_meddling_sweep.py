# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One act of somebody else before each task of each kind of run, taken from the run itself. No guest is lost, and nothing that others rely on.

Each act meets each phase of each run. Which task of the phase it comes before goes by turn, so that in a few acts every task has had its own.
"""

from __future__ import annotations

import re
import time
import traceback
import xml.etree.ElementTree as ET
from collections import Counter
from typing import Any

import pytest
from support.faults import SWITCH, Task, eventually, one_paragraph, play_and_meddle
from support.fleet import Fleet, Run
from support.guest import Guest, Guests
from support.hands import DATA_DISK, HANDS, Hand, SlowShutdown, disks_of
from support.lab import Lab
from support.sweep import AHEAD, CLAIMED_IN_PLACE, IN_PLACE, MOVE, STARTED, WEB, Scenario, Sweep

STOP = "Move | Stop, prove off and seal the guest"
MARKS = "/root/marks"
CLOSED = ("confirmed", "reverted", "error")

SCENARIOS = {
    "resize": Scenario("resize", MOVE),
    "migrate, pre-copy": Scenario("migrate", {**WEB, "migrate_precopy": "always"}),
    "resize in place": Scenario("resize", IN_PLACE),
    "confirm": Scenario("confirm", WEB, MOVE),
    "confirm, in place": Scenario("confirm", WEB, IN_PLACE),
    "revert": Scenario("revert", WEB, MOVE),
    "revert, in place": Scenario("revert", WEB, IN_PLACE),
    "recover, layered": Scenario("recover", WEB, AHEAD, STOP),
    "recover, back": Scenario("recover", WEB, MOVE, SWITCH),
    "recover, forward": Scenario("recover", WEB, MOVE, STARTED),
    "recover, in place": Scenario("recover", WEB, IN_PLACE, CLAIMED_IN_PLACE),
    "resize, stopped guest": Scenario("resize", MOVE, running=False),
    "resize in place, stopped guest": Scenario("resize", IN_PLACE, running=False),
    "confirm, stopped guest": Scenario("confirm", WEB, MOVE, running=False),
    "revert, stopped guest": Scenario("revert", WEB, MOVE, running=False),
}
OF_A_STOPPED_GUEST = ("started", "clone")
# A task that ends a phase of its run: what stands on which host is another thing after it.
TURNS = (
    "Precopy | Freeze what the guest has written so far",
    STOP,
    SWITCH,
    CLAIMED_IN_PLACE,
    "Apply | Prove the copy at the destination",
    "Apply | Remove the sealed copy at the source",
    "Apply | Stop and undefine the guest at the destination",
    "Apply | Withdraw the copy at the destination",
    "Apply | Restore the copy at the source",
    "Apply | Go on at the destination",
)
AS_BEFORE = re.compile(r"web is as before on (kvm\d)")
OPEN = re.compile(r"could NOT be undone yet|is still open|is unreachable|does not answer|waits for confirm or revert")


def phases(points: list[Task]) -> list[list[Task]]:
    """The points of a run, by what has been done before them. A third round of pre-copy is what the second was."""
    found: list[list[Task]] = [[]]
    ended: Counter[str] = Counter()
    for point in points:
        found[-1].append(point)
        ended[point.name] += 1
        if point.name in TURNS and ended[point.name] <= 2:
            found.append([])
    return [phase for phase in found if phase]


class MeddlingSweep(Sweep):
    """What somebody does is done once in each run; whatever the run says of it is true, and both he and the guest keep what is theirs."""

    def __init__(self, lab: Lab, guests: Guests, fleet: Fleet, scenario: Scenario, kind: type[Hand]) -> None:
        super().__init__(lab, guests, fleet, scenario)
        self.kind = kind
        self.hand: Hand | None = None
        self.early: list[str] = []
        self.late: list[str] = []
        self.settled_by: set[str] = set()

    def make(self) -> Guest:
        """With a disk of its own data."""
        guest = self.guests.create("web", "kvm1", start=False)
        host = guest.host
        host.sh(f"qemu-img create -q -f qcow2 {DATA_DISK} 64M")
        host.virsh("attach-disk", "web", DATA_DISK, "vdb", "--subdriver", "qcow2", "--config")
        host.virsh("start", "web")
        return guest.wait()

    def begin(self) -> None:
        self.hand, self.early, self.late, self.settled_by = None, [], [], {self.scenario.verb}
        super().begin()

    @property
    def open_records(self) -> list[dict[str, Any]]:
        """Each with the host that has it."""
        return [{**record, "host": name} for name, host in self.lab.hosts.items() for record in host.records() if record["status"] not in CLOSED]

    @property
    def _unfinished(self) -> set[str]:
        """The hosts at which something is neither finished nor closed."""
        return {record["host"] for record in self.open_records if record["status"] != "finished"}

    def survives(self, before: str | int, again: str, verb: str) -> bool:
        """Let the act happen before a task, run a playbook again, settle what waits with `verb`, and see what is left; False where it cannot happen."""
        self.begin()
        guest, extra = self.subject.guest, {**self.scenario.extra, **self.kind.extra}
        definition = guest.xml if guest.hosts else ""

        def meddle() -> None:
            hand = self.kind(self.lab, self.subject)
            if hand.possible():
                self._note()
                hand.do()
                self.hand = hand
                if not hand.deaf:
                    self._note()

        run = play_and_meddle(self.fleet, before, meddle, self.scenario.verb, **extra)
        happened = self.hand is not None
        if happened:
            if self.hand.deaf:
                self._take_back()
            self._told_the_truth(run, definition)
        if run.rc or self._unfinished:
            self._ends(again, extra if again == self.scenario.verb else {**WEB, **self.kind.extra})
        self.end(verb)
        return happened

    def _note(self) -> None:
        """The guest writes something, where it can, which it must not lose unless somebody asks for a revert."""
        guest = self.subject.guest
        if not guest.hosts or guest.state != "running" or guest.host.attempt("virsh", "qemu-agent-command", "web", '{"execute": "guest-ping"}').returncode:
            return
        mark = f"{time.time():.3f}"
        guest.exec("sh", "-c", f"echo {mark} >>{MARKS}; sync")
        switched = any(record["status"] in ("post-migrating", "finished", "confirming", "reverting") for record in self.open_records)
        (self.late if switched else self.early).append(mark)

    def _told_the_truth(self, run: Run, before: str) -> None:
        """It succeeded, or said what has become of the guest, which is so."""
        self._others_keep_theirs()
        guest, hosts = self.subject.guest, self.subject.guest.hosts
        assert len(hosts) <= 1, f"{hosts} can start the guest"
        if run.rc == 0:
            assert len(hosts) == 1
            assert self._unfinished <= self._named(run.said), f"it is said to be done and is not on {self._unfinished}"
            return
        error = one_paragraph(run)
        if told := AS_BEFORE.search(error):
            assert hosts == [told[1]], f"it is not as before on {told[1]}: defined on {hosts}\n{error}"
            assert {record["host"] for record in self.open_records} <= self._named(error), error
            self._is_as_before(guest, before)
        else:
            assert OPEN.search(error) or not self.open_records, error
            self._gives_a_reason(error)

    def _named(self, text: str) -> set[str]:
        """The hosts of which it is said that they were not asked."""
        return {host for host in self.lab.hosts if re.search(rf"\b{host} does not answer and may still hold|Not asked: .*\b{host} \(", text)}

    def _is_as_before(self, guest: Guest, before: str) -> None:
        if isinstance(self.hand, SlowShutdown):
            self._take_back()
        state = guest.state
        assert state in (self.kind.leaves or ("running" if self.scenario.running else "shut off",)), f"it is said to be as before and is {state}"
        now = guest.xml
        for target, path in disks_of(before).items():
            assert disks_of(now).get(target) in self.kind.paths(target, path), disks_of(now)
        assert _without_disks(now) == _without_disks(before)

    def _gives_a_reason(self, error: str) -> None:
        """Whoever reads it knows whom to ask."""
        assert any(word in error for word in self.kind.words), f"none of {self.kind.words} in: {error}"

    def _others_keep_theirs(self) -> None:
        if self.hand and not self.hand.deaf:
            self.hand.intact()

    def _take_back(self) -> None:
        if self.hand:
            self.hand.undo()
            self.hand = None

    def _ends(self, again: str, extra: dict[str, Any]) -> None:
        """The same again may be refused as long as the act stands. Whatever is open ends when it has been taken back."""
        run = self.fleet.play(again, **extra)
        self._others_keep_theirs()
        assert len(self.subject.guest.hosts) <= 1
        if run.rc:
            error = one_paragraph(run)
            assert self.hand, error
            self._gives_a_reason(error)
            self._take_back()
            self.fleet.play("recover", **WEB).ok()

    def end(self, verb: str) -> None:
        """Settle what waits, which may be refused once as long as the act stands; then nothing is left of anybody, and the guest is whole."""
        if any(record["status"] == "finished" for record in self.open_records):
            run = self.fleet.play(verb, **WEB)
            self._others_keep_theirs()
            if run.rc and self.hand:
                self._gives_a_reason(one_paragraph(run))
                self._take_back()
                run = self.fleet.play(verb, **WEB)
            run.ok()
            self.settled_by.add(verb)
        self._take_back()
        self._is_whole()
        guest = self.subject.guest
        if guest.hosts != ["kvm1"] or disks_of(guest.xml) != {"vda": guest.disk, "vdb": DATA_DISK} or "confirm" in self.settled_by:
            self.subject = None

    def _is_whole(self) -> None:
        """One host has it, which runs it, or starts it now where it was off before or somebody had switched it off; and no host has anything else."""
        subject, guest = self.subject, self.subject.guest
        assert len(guest.hosts) == 1, f"defined on {guest.hosts}"
        if guest.state == "shut off":
            assert not self.scenario.running or "shut off" in (self.kind.leaves or ()), "it is off"
            guest.host.virsh("start", "web")
        host = subject.runs_once_with_its_data()
        eventually(lambda: "<on_poweroff>destroy<" in guest.host.virsh("dumpxml", "web"), "it stays off again where it powers off")
        written = guest.exec("sh", "-c", f"cat {MARKS} 2>/dev/null || true").split()
        lost = {*self.early, *(() if "revert" in self.settled_by else self.late)} - set(written)
        assert not lost, f"the guest lost what it wrote: {lost}"
        own = {f"{host}: {path}" for path in guest.disk_paths} | {f"{host}: domain web"}
        left = [line for line in self.lab.leftovers() if line not in own]
        assert not left, left
        if not self.scenario.running:
            guest.shut_down()


def _without_disks(xml: str) -> str:
    """A definition but for its disks, in one way of writing."""
    root = ET.fromstring(xml)  # noqa: S314 - of the lab's own libvirt
    devices = root.find("devices")
    for element in [element for element in devices if element.tag in ("disk", "controller")]:
        devices.remove(element)
    return ET.canonicalize(ET.tostring(root, encoding="unicode"), strip_text=True)


def _meet(scenario: str, hand: str) -> bool:
    """Whether the act is tried in that run: that on a guest which is off where it is off, each other one where it runs."""
    running = SCENARIOS[scenario].running
    return running == (HANDS[hand][0].needs != "off") or (not running and hand in OF_A_STOPPED_GUEST)


def _tried(sweep: MeddlingSweep, phase: list[Task], turn: int, request: pytest.FixtureRequest) -> str:
    """What was lost at one point of a phase, with the reason."""
    key = (sweep.scenario, phase[0].number, sweep.kind.needs)
    if key in _impossible:
        return ""
    task, again, verb = phase[turn % len(phase)], ("recover", sweep.scenario.verb)[turn % 2], ("revert", "confirm")[turn % 3 == 2]
    try:
        if not sweep.survives(task.number, again, verb):
            _impossible.add(key)
            return ""
    except Exception:
        sweep.begin_anew()
        _count(request, "tried")
        return f"{sweep.kind.__name__} before {task.name}, {again}, {verb}:\n{traceback.format_exc()}"
    _count(request, "tried", "survived")
    return ""


def _count(request: pytest.FixtureRequest, *what: str) -> None:
    request.node.user_properties += [("meddling sweep", one) for one in what]


_impossible: set[tuple[Scenario, int, str]] = set()  # no host defines the guest in that phase, or it is off


@pytest.mark.invariant(2)
@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("scenario", "hand"), [(scenario, hand) for scenario in SCENARIOS for hand in HANDS if _meet(scenario, hand)])
def test_meddling_sweep(lab: Lab, guests: Guests, fleet: Fleet, scenario: str, hand: str, request: pytest.FixtureRequest) -> None:
    """After each: recover, or the same again, and then confirm or revert; after the act has been taken back, if it is in the way. Nothing is left."""
    kinds, lost = HANDS[hand], []
    sweep = MeddlingSweep(lab, guests, fleet, SCENARIOS[scenario], kinds[0])
    for turn, phase in enumerate(phases(sweep.points()), list(HANDS).index(hand) + list(SCENARIOS).index(scenario)):
        sweep.kind = kinds[turn % len(kinds)]
        lost.append(_tried(sweep, phase, turn, request))
    assert not any(lost), "\n\n".join(filter(None, lost))


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("scenario", "hand", "before", "verb"),
    [
        ("migrate, pre-copy", "snapshot", "Precopy | Copy it to the destination and merge it there", "revert"),
        ("confirm, in place", "clone", "Apply | Bring the resize in place to a complete state", "confirm"),
        ("recover, forward", "switched off", "Take over | At the source", "confirm"),
        ("confirm", "paused", "Apply | Prove the copy at the destination", "confirm"),
    ],
)
def test_the_worst_hands(lab: Lab, guests: Guests, fleet: Fleet, scenario: str, hand: str, before: str, verb: str, request: pytest.FixtureRequest) -> None:
    """Those of the sweep that are no variants of what another test shows: over layers and on them, after the start, and before the proof."""
    assert MeddlingSweep(lab, guests, fleet, SCENARIOS[scenario], HANDS[hand][0]).survives(before, "recover", verb)
    _count(request, "tried", "survived")
