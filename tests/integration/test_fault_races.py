# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Two controllers at once: the hosts' own locks decide, nobody loses a guest, nothing is promised twice."""

from __future__ import annotations

import time

import pytest
from support.faults import LEASE, QUICK, Subject, eventually, in_mid_copy, one_paragraph, slow_link
from support.fleet import Fleet
from support.guest import Guests
from support.lab import Lab


@pytest.mark.parametrize("rounds", [1, pytest.param(6, marks=pytest.mark.slow)])
def test_two_guests_toward_the_one_host_with_room_for_one(lab: Lab, guests: Guests, fleet: Fleet, rounds: int) -> None:
    """Exactly one gets it; the other is refused with the numbers and goes on running."""
    subjects = []
    for name in ("one", "two"):
        guest = guests.create(name, "kvm1")
        subjects.append(Subject(lab, guest, guest.write()))
    fleet.free_memory("kvm2", 600)
    ask = {"flavor": "large", "resize_allow_resize_to_same_host": False, **QUICK}
    for _round in range(rounds):
        runs = [playing.wait() for playing in [fleet.start("resize", instance=subject.guest.name, **ask) for subject in subjects]]
        assert sorted(run.rc == 0 for run in runs) == [False, True], [run.error for run in runs]
        for run, subject in zip(runs, subjects, strict=True):
            assert subject.runs_once_with_its_data() == ("kvm2" if run.rc == 0 else "kvm1")
        one_paragraph(next(run for run in runs if run.rc), "kvm2", "512", "88")
        winner = next(subject for run, subject in zip(runs, subjects, strict=True) if run.rc == 0)
        fleet.play("revert", instance=winner.guest.name, **QUICK).ok()


@pytest.mark.slow
@pytest.mark.whole_fleet
def test_two_guests_of_two_hosts_and_an_alternate(lab: Lab, guests: Guests, fleet: Fleet) -> None:
    """The loser takes its next best host."""
    subjects = []
    for name, host in (("one", "kvm1"), ("two", "kvm3")):
        guest = guests.create(name, host)
        subjects.append(Subject(lab, guest, guest.write()))
    for host in lab.hosts:
        fleet.hosts[host]["kvmfleet_zone"] = "north"
    fleet.free_memory("kvm2", 800)
    fleet.free_memory("kvm4", 700)
    ask = {"flavor": "large", "resize_allow_resize_to_same_host": False, **QUICK}
    ignored = {"one": ["kvm3"], "two": ["kvm1"]}
    started = [fleet.start("resize", instance=subject.guest.name, resize_ignore_hosts=ignored[subject.guest.name], **ask) for subject in subjects]
    moved = [playing.wait().ok().migration for playing in started]
    assert sorted(one["destination"] for one in moved) == ["kvm2", "kvm4"]
    for subject, one in zip(subjects, moved, strict=True):
        assert subject.runs_once_with_its_data() == one["destination"]
        fleet.play("revert", instance=subject.guest.name, **QUICK).ok()


def test_one_guest_and_two_controllers(lab: Lab, guests: Guests, fleet: Fleet) -> None:
    """One wins undisturbed; the other is told about the winner's operation, or finds nothing left to do."""
    guest = guests.create("web", "kvm1")
    subject = Subject(lab, guest, guest.write(8))
    runs = [playing.wait() for playing in [fleet.start("resize", instance="web", flavor=flavor, target_host="kvm2") for flavor in ("medium", "large")]]
    assert sorted(run.rc == 0 for run in runs) == [False, True], [run.error for run in runs]
    one_paragraph(next(run for run in runs if run.rc), "web", "migration")
    assert subject.runs_once_with_its_data() == "kvm2"
    fleet.play("revert", instance="web", **QUICK).ok()
    subject.as_before()


@pytest.mark.slow
def test_a_second_controller_comes_in_mid_copy(lab: Lab, guests: Guests, fleet: Fleet) -> None:
    """It waits for the first, which goes on undisturbed, and then finds nothing left to do."""
    guest = guests.create("web", "kvm1")
    subject = Subject(lab, guest, guest.write(24))
    with slow_link(lab["kvm2"]):
        first = fleet.start("resize", instance="web", flavor="medium", target_host="kvm2")
        in_mid_copy(lab["kvm2"], first)
        second = fleet.start("resize", instance="web", flavor="medium", target_host="kvm2")
        assert first.wait().ok().migration["destination"] == "kvm2"
        second.wait().ok()
    assert subject.runs_once_with_its_data() == "kvm2"
    fleet.play("revert", instance="web", **QUICK).ok()
    subject.as_before()


def test_a_recover_leaves_a_run_alone_whose_guest_takes_long_to_shut_down(lab: Lab, guests: Guests, fleet: Fleet) -> None:
    """A run renews its lease where it works. The other end, whose lease has run out meanwhile, is not taken from it."""
    guest = guests.create("web", "kvm1")
    subject = Subject(lab, guest, guest.write())
    guest.exec("touch", "/run/ignore-shutdown")
    slow = {"migrate_shutdown_timeout": 6 * LEASE, "migrate_on_shutdown_timeout": "destroy", "migrate_precopy": "never"}
    first = fleet.start("resize", instance="web", flavor="medium", target_host="kvm2", **QUICK, **slow)
    eventually(lambda: any(record["step"] == "stopping" for record in lab["kvm1"].records()), "the guest is asked to shut down", 180)
    time.sleep(2 * LEASE)
    recover = fleet.start("recover", **QUICK)
    assert first.wait().ok().migration["destination"] == "kvm2"
    recover.wait().ok()
    assert subject.runs_once_with_its_data() == "kvm2"
    fleet.play("revert", instance="web", **QUICK).ok()
    subject.as_before()
