# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A job that is cancelled as AWX does it, at each phase: what works on the hosts notices, and the guest runs again soon. docs/cancel.md says what to expect."""

from __future__ import annotations

import json
import time
from collections.abc import Callable

import pytest
from lab.bases import DEFAULT_NAME
from support.faults import Subject, eventually, in_mid_copy
from support.guest import Guests
from support.jobs import PATIENCE, Job, Jobs
from support.lab import IMAGES, Host, Lab

SOON = 60.0  # seconds from the cancel until the guest runs again, beside what any recover takes
USUAL = 8.0  # seconds that a recover which finds nothing to do takes at most on a machine that is not overloaded
MOVE = {"instance": "web", "flavor": "medium", "allow_resize_to_same_host": "false"}
IN_PLACE = {"instance": "web", "flavor": "large", "target_host": "kvm1"}
SLOW_COPY = {"migrate_bandwidth_limit": "150K"}  # more than five minutes for what a test writes
MIB = 48


@pytest.fixture
def subject(lab: Lab, guests: Guests) -> Subject:
    """Its base image lies at the destination: it is the guest's own disk that travels."""
    lab.call("base", "put", DEFAULT_NAME, "--host", "kvm2", check=False)  # others may have
    guest = guests.create("web", "kvm1")
    return Subject(lab, guest, guest.write(MIB))


def cancel(job: Job) -> float:
    """When that began."""
    began = time.monotonic()
    job.cancel()
    return began


def in_copy(lab: Lab, playing: Job, mib: int = 1) -> float:
    """Cancel a run as soon as a copy of the guest's disk has brought so much; if it never does, the run does not outlive the test."""
    blocks = f"stat --format=%b {IMAGES}/*.qcow2.*.part 2>/dev/null"
    return at(lab, playing, lambda: int(lab["kvm2"].sh(blocks, check=False) or 0) * 512 > mib * 2**20)


def at(lab: Lab, playing: Job, when: Callable[[], object]) -> float:
    """Cancel a run as soon as a condition holds; it does not outlive the test if it never does."""
    try:
        eventually(lambda: playing.process.poll() is not None or when(), "the run comes to where it is cancelled", PATIENCE)
        assert playing.process.poll() is None, playing.output
    finally:
        began = cancel(playing)
    return began


def taken_back(host: Host) -> None:
    """Wait until the host has done so by itself."""
    try:
        eventually(at_step(host, "error"), "the host has taken it back", 60)
    except AssertionError as error:
        raise AssertionError(f"{error}\n{host.records()[-1]}\n{host.sh('ps -eo pid,ppid,etimes,args')}") from None


def at_step(host: Host, step: str) -> Callable[[], bool]:
    """Whether the newest operation of a host is there; those before it have been at each."""
    return lambda: next((record["step"] for record in host.records()[-1:]), None) == step


def recovered_after(jobs: Jobs, began: float) -> None:
    """Recover ends the operation soon. A busy machine takes its time to run any playbook, so that it is compared with one that finds nothing to do."""
    recovered = jobs.play("recover", instance="web").ok()
    seconds, again = time.monotonic() - began, time.monotonic()
    jobs.play("recover", instance="web").ok()
    nothing = time.monotonic() - again
    assert "waits for the run that works on it" not in recovered.output
    print(f"recovered {seconds:.1f} s after the cancel; a recover that finds nothing to do takes {nothing:.1f} s")
    assert seconds - nothing < SOON * max(1.0, nothing / USUAL), recovered.output


def nobody_works(host: Host) -> bool:
    """No module runs on a host."""
    return not host.sh("ps -eo args= | grep -E 'AnsiballZ|python3 *$|nbdcopy' | grep -v grep", check=False).strip()


def will_not_follow(subject: Subject) -> None:
    """The guest takes a request to shut down, and does not follow it."""
    subject.guest.exec("sh", "-c", "printf '#!/bin/sh\\n' >/run/deaf; chmod 755 /run/deaf; mount --bind /run/deaf /sbin/shutdown; killall -9 acpid; true")


@pytest.mark.parametrize("pipelining", [True, pytest.param(False, marks=pytest.mark.slow)], ids=["pipelining", "terminal"])
def test_cancelled_in_the_middle_of_a_long_copy_the_guest_runs_again_at_once(lab: Lab, jobs: Jobs, subject: Subject, pipelining: bool) -> None:
    """The module ends, and recover waits for nobody."""
    jobs.vars["ansible_pipelining"] = pipelining
    playing = jobs.start("resize", **MOVE, **SLOW_COPY)
    began = in_copy(lab, playing)
    eventually(lambda: nobody_works(lab["kvm2"]), "the module has ended", 30)
    noticed = time.monotonic() - began
    recovered_after(jobs, began)
    assert subject.guest.state == "running"
    print(f"noticed {noticed:.1f} s after the cancel")
    assert "its run has gone" in json.dumps(lab["kvm2"].records()[-1])
    subject.as_before()


@pytest.mark.slow
def test_what_a_cancelled_run_has_copied_does_not_travel_again(lab: Lab, jobs: Jobs, subject: Subject) -> None:
    """Where it is worth keeping, which 16 MiB are."""
    playing = jobs.start("resize", **MOVE, migrate_bandwidth_limit="1M")
    in_copy(lab, playing, 24)
    jobs.play("recover", instance="web").ok()
    subject.as_before()
    moved = jobs.play("resize", **MOVE).ok().migration
    assert moved["resumed_bytes"] >= 16 * 2**20
    jobs.play("revert", instance="web").ok()
    subject.as_before()


def test_cancelled_while_it_stops_the_guest_its_host_takes_it_back_by_itself(lab: Lab, jobs: Jobs, subject: Subject) -> None:
    """Nobody has to come: nobody but this host can have started it. What is left at the destination goes with the next recover."""
    boot_id = subject.boot_id
    will_not_follow(subject)
    at(lab, jobs.start("resize", **MOVE, migrate_shutdown_timeout=120), at_step(lab["kvm1"], "stopping"))
    taken_back(lab["kvm1"])
    assert (subject.guest.state, subject.boot_id) == ("running", boot_id)
    jobs.play("recover", instance="web").ok()
    subject.is_untouched(boot_id)


@pytest.mark.slow
def test_cancelled_in_place_its_host_takes_it_back_by_itself(lab: Lab, jobs: Jobs, subject: Subject) -> None:
    boot_id = subject.boot_id
    will_not_follow(subject)
    at(lab, jobs.start("resize", **IN_PLACE, migrate_shutdown_timeout=120), at_step(lab["kvm1"], "stopping"))
    taken_back(lab["kvm1"])
    jobs.play("recover", instance="web").ok()
    subject.is_untouched(boot_id)


@pytest.mark.slow
def test_cancelled_in_a_round_of_pre_copy_the_guest_goes_on(lab: Lab, jobs: Jobs, subject: Subject) -> None:
    boot_id = subject.boot_id
    playing = jobs.start("resize", **MOVE, **SLOW_COPY, migrate_precopy="always")
    began = in_copy(lab, playing)
    recovered_after(jobs, began)
    subject.is_untouched(boot_id)


@pytest.mark.slow
def test_cancelled_once_the_guest_was_started_the_move_is_completed(lab: Lab, jobs: Jobs, subject: Subject) -> None:
    """It may have written there, so that only a person takes it back."""
    began = at(lab, jobs.start("resize", **MOVE, migrate_settle_time=60), at_step(lab["kvm2"], "started"))
    recovered_after(jobs, began)
    assert subject.runs_once_with_its_data() == "kvm2"
    jobs.play("revert", instance="web").ok()
    subject.as_before()


@pytest.mark.slow
def test_a_cancelled_revert_is_completed(lab: Lab, jobs: Jobs, subject: Subject) -> None:
    """While the guest is asked to shut down at the destination; what waits for it waits no longer."""
    jobs.play("resize", **MOVE).ok()
    subject.guest.wait()
    will_not_follow(subject)
    began = at(lab, jobs.start("revert", instance="web", migrate_shutdown_timeout=120), at_step(lab["kvm2"], "reverting"))
    eventually(lambda: nobody_works(lab["kvm2"]), "the module has ended", 30)
    jobs.play("recover", instance="web", migrate_shutdown_timeout=5, migrate_revert_on_shutdown_timeout="destroy").ok()
    print(f"reverted {time.monotonic() - began:.1f} s after the cancel")
    subject.as_before()


@pytest.mark.slow
def test_a_cancelled_recover_leaves_nobody_waiting(lab: Lab, jobs: Jobs, subject: Subject) -> None:
    """It waits for a run that lives, says so, and is cancelled; the run goes on undisturbed."""
    playing = jobs.start("resize", **MOVE, migrate_bandwidth_limit="1M")
    in_mid_copy(lab["kvm2"], playing, 1)
    waiting = jobs.start("recover", instance="web", migrate_progress_interval=2)
    eventually(lambda: "waits for the run that works on it, which copies: " in waiting.output, "recover says whom it waits for, and how far that is", 60)
    cancel(waiting)
    playing.wait().ok()
    assert subject.runs_once_with_its_data() == "kvm2"
    jobs.play("revert", instance="web").ok()
    subject.as_before()
