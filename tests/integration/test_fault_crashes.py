# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A controller that is killed at any point: the journals alone lead to a guest that runs once, with its data."""

from __future__ import annotations

import pytest
from support.faults import QUICK, SWITCH, Subject, in_mid_copy, kill_ssh_masters, play_to_death, slow_link
from support.fleet import Fleet
from support.guest import Guests
from support.lab import Lab

RESIZE = {"instance": "web", "flavor": "medium", "resize_allow_resize_to_same_host": False, **QUICK}
SETTLE = {"instance": "web", **QUICK}

# Where a crash leaves each time another state behind; test_crash_sweep.py takes every task.
RESIZE_POINTS = (
    "Claim | Reserve capacity under the destination's lock",
    "Move | Stop, prove off and seal the guest",
    SWITCH,
    "Move | Note at the source that it is finished",
)
CONFIRM_POINTS = ("Apply | Remove the sealed copy at the source", "Apply | Close the operation at the destination")
REVERT_POINTS = ("Apply | Restore the copy at the source", "Apply | Remove what the operation created at the destination")


@pytest.fixture
def subject(lab: Lab, guests: Guests) -> Subject:
    guest = guests.create("web", "kvm1")
    return Subject(lab, guest, guest.write())


def settled(subject: Subject, fleet: Fleet) -> str:
    """The guest runs once; a move that waits for confirm is reverted; nothing is left. Where the guest ended before that."""
    host = subject.runs_once_with_its_data()
    if host != "kvm1":
        fleet.play("revert", **SETTLE).ok()
    subject.as_before()
    return host


@pytest.mark.invariant(4)
@pytest.mark.parametrize("again", ["recover", pytest.param("resize", marks=pytest.mark.slow)])
def test_a_controller_dies_between_two_tasks_of_a_resize(subject: Subject, fleet: Fleet, again: str) -> None:
    """Recover ends it one way or the other; the same playbook run again ends in moved."""
    for point in RESIZE_POINTS:
        assert play_to_death(fleet, point, "resize", **RESIZE)
        fleet.play(again, **(SETTLE if again == "recover" else RESIZE)).ok()
        ended = settled(subject, fleet)
        assert again == "recover" or ended == "kvm2"


def test_a_controller_dies_between_two_tasks_of_an_undo(subject: Subject, fleet: Fleet) -> None:
    """The destination has withdrawn, the source does not know it yet."""
    failing = {**RESIZE, "migrate_ports": "22222-22222"}
    subject.lab["kvm1"].sh("nbdkit --port 22222 null 1M")
    assert play_to_death(fleet, "Apply | Restore the copy at the source", "resize", **failing)
    subject.lab["kvm1"].sh("kill $(ps -eo pid=,comm= | awk '$2 == \"nbdkit\" { print $1 }')")
    fleet.play("recover", **SETTLE).ok()
    subject.as_before()


def test_a_controller_dies_between_two_tasks_of_a_confirm(subject: Subject, fleet: Fleet) -> None:
    """Once the destination is proven there is no way back: confirm, run again, or recover end in confirmed."""
    fleet.play("resize", **RESIZE).ok()
    assert play_to_death(fleet, CONFIRM_POINTS[0], "confirm", **SETTLE)
    assert play_to_death(fleet, CONFIRM_POINTS[1], "confirm", **SETTLE)
    fleet.play("recover", **SETTLE).ok()
    subject.as_before("kvm2")


def test_a_controller_dies_between_two_tasks_of_a_revert(subject: Subject, fleet: Fleet) -> None:
    """Once the destination's copy is undefined the guest can only go back."""
    fleet.play("resize", **RESIZE).ok()
    assert play_to_death(fleet, REVERT_POINTS[0], "revert", **SETTLE)
    assert subject.guest.hosts == []
    assert play_to_death(fleet, REVERT_POINTS[1], "recover", **SETTLE)
    assert subject.runs_once_with_its_data() == "kvm1"
    fleet.play("revert", **SETTLE).ok()
    subject.as_before()


@pytest.mark.parametrize(
    ("again", "masters"),
    [
        pytest.param("resize", True, id="connections too, resize again", marks=pytest.mark.slow),
        pytest.param("resize", False, id="resize again", marks=pytest.mark.slow),
        pytest.param("recover", True, id="connections too, recover", marks=pytest.mark.slow),
        pytest.param("recover", False, id="recover"),
    ],
)
def test_killed_in_the_middle_of_the_copy(lab: Lab, guests: Guests, fleet: Fleet, again: str, masters: bool) -> None:
    """The module on the destination may outlive its controller; whoever comes next waits for it and then goes on or back."""
    guest = guests.create("web", "kvm1")
    subject = Subject(lab, guest, guest.write(24))
    with slow_link(lab["kvm2"]):
        playing = fleet.start("resize", **RESIZE)
        in_mid_copy(lab["kvm2"], playing)
        playing.kill()
        if masters:
            kill_ssh_masters(lab)
    fleet.play(again, **(RESIZE if again == "resize" else SETTLE)).ok()
    assert settled(subject, fleet) == "kvm2" or again == "recover"
