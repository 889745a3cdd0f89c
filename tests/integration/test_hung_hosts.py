# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts that hang: one that says nothing is down, with the reason; the others go on; and what it may still do is awaited before the guest is started."""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterator

import pytest
from support.faults import QUICK, SWITCH, Subject, environment, eventually, kill_ssh_masters, one_paragraph, write_files
from support.fleet import Fleet, Run
from support.guest import Guests
from support.hung import STOP_LIBVIRTD, go_on, hung_file_server, hung_libvirtd, hung_sshd
from support.lab import SCRIPT, Lab

LIMIT = 5
MOVE = {"instance": "web", "flavor": "medium", "resize_allow_resize_to_same_host": False, **QUICK}
SETTLE = {"instance": "web", **QUICK}
SEAL = "Move | Stop, prove off and seal the guest"


@pytest.fixture
def subject(guests: Guests, fleet: Fleet) -> Subject:
    fleet.vars["kvmfleet_hang_timeout"] = LIMIT
    guest = guests.create("web", "kvm1")
    return Subject(guests.lab, guest, guest.write())


def within(seconds: float, run: Run, began: float) -> Run:
    assert time.monotonic() - began < seconds, run.output
    return run


@pytest.mark.whole_fleet
def test_a_host_that_hangs_is_down_and_nobody_waits_for_it(lab: Lab, fleet: Fleet, subject: Subject) -> None:
    """Its libvirtd: status names it and the reason, guests of others are planned and moved past it."""
    fleet.hosts["kvm3"]["kvmfleet_zone"] = "north"
    with hung_libvirtd(lab["kvm2"]):
        status = within(60, fleet.play("status").ok(), time.monotonic())
        assert f"libvirtd has not answered open() for {LIMIT} s" in status.said
        plan = fleet.play("plan", instance="web", flavor="medium", allow_resize_to_same_host=False).ok()
        assert "is down" in plan.verdicts["kvm2"]
        assert fleet.play("resize", **MOVE).ok().migration["destination"] == "kvm3"
        assert subject.running_on == ["kvm3"]
    assert subject.runs_once_with_its_data() == "kvm3"
    fleet.play("revert", **SETTLE).ok()
    subject.as_before()


def test_a_destination_that_hangs_at_the_switch(lab: Lab, fleet: Fleet, subject: Subject) -> None:
    """The guest is off, and what its libvirtd was asked may still come to pass: it is awaited before the guest runs again."""
    stop = shlex.join([str(SCRIPT), "exec", "kvm2", "--", "sh", "-c", STOP_LIBVIRTD])
    with environment(KVMFLEET_MEDDLE_BEFORE=SWITCH, KVMFLEET_MEDDLE_WITH=stop):
        run = fleet.play("resize", **MOVE)
    try:
        one_paragraph(run, "kvm2", "libvirtd has not answered", "the source copy on kvm1 is sealed", "nothing is started here until it answers", "recover")
        one_paragraph(fleet.play("recover", **SETTLE), "web", "kvm2", "libvirtd has not answered", "nothing is started here until it answers")
        assert subject.running_on == []
    finally:
        go_on(lab["kvm2"])
    fleet.play("recover", **SETTLE).ok()
    subject.as_before()


@pytest.mark.slow
def test_a_source_that_hangs_at_the_switch(lab: Lab, fleet: Fleet, subject: Subject) -> None:
    """It has not been asked for anything yet, so the guest goes on running; the run says that it cannot know."""
    boot_id = subject.boot_id
    stop = shlex.join([str(SCRIPT), "exec", "kvm1", "--", "sh", "-c", STOP_LIBVIRTD])
    with environment(KVMFLEET_MEDDLE_BEFORE=SEAL, KVMFLEET_MEDDLE_WITH=stop):
        run = fleet.play("resize", **MOVE)
    try:
        one_paragraph(run, "kvm1", "libvirtd has not answered", "could NOT be undone yet", "recover")
        assert subject.running_on == ["kvm1"]
    finally:
        go_on(lab["kvm1"])
    fleet.play("recover", **SETTLE).ok()
    subject.is_untouched(boot_id)


@pytest.mark.invariant(1)
@pytest.mark.slow
def test_both_hosts_hang_at_the_switch(lab: Lab, fleet: Fleet, subject: Subject) -> None:
    """Nobody knows anything: the run says where the guest can be, and never that it is as before."""
    stop = f"{SCRIPT} exec kvm1 -- sh -c {shlex.quote(STOP_LIBVIRTD)} && {SCRIPT} exec kvm2 -- sh -c {shlex.quote(STOP_LIBVIRTD)}"
    with environment(KVMFLEET_MEDDLE_BEFORE=SWITCH, KVMFLEET_MEDDLE_WITH=shlex.join(["sh", "-c", stop])):
        run = fleet.play("resize", **MOVE)
    try:
        where = "web is on kvm1, running or stopped, unless it has been started on kvm2"
        error = one_paragraph(run, "kvm1 does not answer", "kvm2 does not answer", "libvirtd has not answered", where, "recover")
        assert "as before" not in error
        assert "Not asked: kvm1 (kvm1: The host hangs" in fleet.play("recover", **QUICK).ok().said
        assert subject.running_on == []
    finally:
        for name in ("kvm1", "kvm2"):
            go_on(lab[name])
    fleet.play("recover", **SETTLE).ok()
    subject.as_before()


@pytest.fixture
def hangs_while_it_starts(lab: Lab) -> Iterator[None]:
    """The libvirtd of kvm2 stops in the middle of starting a guest, once."""
    host, hook, armed = lab["kvm2"], "/etc/libvirt/hooks/qemu", "/run/hang"
    host.sh(f"mkdir -p /etc/libvirt/hooks && touch {armed}")
    write_files(host, {hook: f'#!/bin/sh\n[ "$2" = prepare ] && rm {armed} 2>/dev/null || exit 0\n{STOP_LIBVIRTD}\n'})
    host.sh(f"chmod 755 {hook}")
    for action in ("stop-service", "start-service"):
        lab.call("host", action, "kvm2", "libvirtd")
    yield
    host.sh(f"rm -f {hook} {armed}")
    for action in ("stop-service", "start-service"):
        lab.call("host", action, "kvm2", "libvirtd")


@pytest.mark.slow
def test_a_destination_that_hangs_while_it_starts_the_guest(lab: Lab, fleet: Fleet, hangs_while_it_starts: None, subject: Subject) -> None:
    """The start comes to pass late: nobody has started the guest elsewhere, and recover goes on with the one that runs."""
    run = fleet.play("resize", **MOVE)
    try:
        one_paragraph(run, "kvm2", "libvirtd has not answered create()", "nothing is started here until it answers", "recover")
        one_paragraph(fleet.play("recover", **SETTLE), "kvm2", "nothing is started here until it answers")
        assert subject.running_on == []
    finally:
        go_on(lab["kvm2"])
    fleet.play("recover", **SETTLE)
    eventually(lambda: fleet.play("recover", **SETTLE).rc == 0, "recover", 120)
    assert subject.runs_once_with_its_data() in ("kvm1", "kvm2")
    if subject.running_on == ["kvm2"]:
        fleet.play("revert", **SETTLE).ok()
    subject.as_before()


def test_a_file_server_that_hangs(lab: Lab, fleet: Fleet, subject: Subject) -> None:
    """What waits for it cannot even be killed: the host is down, and says so; once it answers, so does the host."""
    fleet.hosts["kvm2"]["kvmfleet_disk_directories"] = {"nfs": "/mnt/nfs"}
    with hung_file_server(lab["kvm2"], "/mnt/nfs"):
        status = within(60, fleet.play("status").ok(), time.monotonic())
        assert f"the system has not answered for {LIMIT} s" in status.said, status.said
        assert "cannot be ended before the kernel lets it go" in status.said
        one_paragraph(fleet.play("resize", **MOVE), "kvm2", "the system has not answered")
        assert subject.running_on == ["kvm1"]
    assert "has not answered" not in fleet.play("status").ok().said
    eventually(lambda: not lab["kvm2"].sh("ps -eo stat=,args= | grep '^D.*python' || true"), "what waited is gone")


@pytest.mark.slow
def test_an_ssh_that_hangs(lab: Lab, fleet: Fleet, subject: Subject) -> None:
    """With connections that were open before, and without: it is down after a while, whatever is reached first."""
    for opened_before in (True, False):
        kill_ssh_masters(lab)
        if opened_before:
            fleet.play("status").ok()
        with hung_sshd(lab["kvm2"]):
            status = within(120, fleet.play("status").ok(), time.monotonic())
            assert "kvm2" in status.said
            assert "down" in status.said
    kill_ssh_masters(lab)
