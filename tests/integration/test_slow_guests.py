# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Guests that follow a request late, or do what they like after they were started: each runs in the end, or is left where it was started."""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest
from support.faults import QUICK, Subject, eventually, in_mid_copy, one_paragraph, play_to_death, slow_link
from support.fleet import Fleet
from support.guest import Guests
from support.lab import Host, Lab

MOVE = {"instance": "web", "flavor": "medium", "resize_allow_resize_to_same_host": False, **QUICK}
SETTLE = {"instance": "web", **QUICK}
IMPATIENT = {"migrate_shutdown_timeout": 2, "migrate_shutdown_retry_interval": 1}
LATE = 60  # seconds after the request at which the guest follows; the run has ended by then


@pytest.fixture
def subject(lab: Lab, guests: Guests) -> Subject:
    guest = guests.create("web", "kvm1")
    return Subject(lab, guest, guest.write())


def will_follow_late(subject: Subject) -> None:
    """Until it is booted again, the guest takes a request to shut down and follows it after a while, as one that installs its updates first."""
    late = f"mkdir /run/asked && (sleep {LATE}; sync; poweroff -f) >/dev/null 2>&1 &"
    subject.guest.exec("sh", "-c", f"printf '#!/bin/sh\n%s\n' '{late}' >/run/late; chmod 755 /run/late; mount --bind /run/late /sbin/shutdown")


def on_poweroff(host: Host) -> str:
    return host.sh("virsh dumpxml web | sed -n 's/.*<on_poweroff>\\(.*\\)<.*/\\1/p'").strip()


@pytest.mark.invariant(3)
@pytest.mark.parametrize(
    ("where", "again"),
    [pytest.param({}, True, id="to another host"), pytest.param({"target_host": "kvm1"}, False, id="in place", marks=pytest.mark.slow)],
)
def test_a_guest_that_shuts_down_late_runs_when_the_run_has_ended_and_afterwards(
    lab: Lab, fleet: Fleet, subject: Subject, where: dict[str, Any], again: bool
) -> None:
    """libvirt restarts it when it goes off at last, also after a restart of its own; after that its owner can shut it down again."""
    host, boot_id = lab["kvm1"], subject.boot_id
    will_follow_late(subject)
    extra = {**MOVE, **where} if not where else {"instance": "web", "flavor": "medium", **where, **QUICK}
    one_paragraph(fleet.play("resize", **{**extra, **IMPATIENT}), "2 s", "and runs. Should it follow later, libvirt restarts it", "as before", "kvm1")
    assert (subject.guest.state, on_poweroff(host)) == ("running", "restart")
    if not again:
        lab.call("host", "stop-service", "kvm1", "libvirtd")
        lab.call("host", "start-service", "kvm1", "libvirtd")
        assert on_poweroff(host) == "restart"
    eventually(lambda: on_poweroff(host) == "destroy", "the guest was reset, and a shutdown means off again", timeout=180)
    assert subject.boot_id != boot_id
    subject.as_before()
    assert host.sh("ls /var/lib/kvmfleet/late_shutdowns").strip() == ""
    if again:
        assert fleet.play("resize", **MOVE).ok().migration["stopped_by"] == "agent"
        fleet.play("revert", **SETTLE).ok()
        subject.as_before()


def test_the_same_command_after_an_interruption_in_the_copy_moves_the_guest(lab: Lab, guests: Guests, fleet: Fleet) -> None:
    """The module that copies may outlive its controller, and then the move ends as it began. Or it goes back first, and waits for the guest to boot."""
    guest = guests.create("web", "kvm1")
    subject = Subject(lab, guest, guest.write(24))
    with slow_link(lab["kvm2"]):
        playing = fleet.start("resize", **MOVE)
        in_mid_copy(lab["kvm2"], playing)
        os.killpg(playing.process.pid, signal.SIGINT)
        playing.process.wait()
    moved = fleet.play("resize", **MOVE).ok().migration
    assert moved["status"] == "finished"
    if "stopped_by" in moved:  # it was stopped a second time
        assert (moved["stopped_by"], moved["agent_answered"]) == ("agent", True)
    assert subject.runs_once_with_its_data() == "kvm2"
    fleet.play("revert", **SETTLE).ok()
    subject.as_before()


def test_a_guest_that_went_off_after_it_was_started_is_where_it_was_started(lab: Lab, fleet: Fleet, subject: Subject) -> None:
    """The run died right after; recover completes the operation and does not start the guest that somebody has shut down. A paused one is not confirmed."""
    assert play_to_death(fleet, "Move | Note at the source that it is finished", "resize", **MOVE)
    subject.guest.wait().shut_down()
    recovered = fleet.play("recover", **SETTLE).ok()
    assert (subject.guest.hosts, subject.guest.state) == (["kvm2"], "shut off"), recovered.output
    one_paragraph(fleet.play("confirm", **SETTLE), "it is shut off", "It ran before", "The source copy is kept")
    lab["kvm2"].virsh("start", "web")
    assert subject.runs_once_with_its_data() == "kvm2"
    lab["kvm2"].virsh("suspend", "web")
    one_paragraph(fleet.play("confirm", **SETTLE), "it is paused (by a user)", "virsh resume", "The source copy is kept")
    lab["kvm2"].virsh("resume", "web")
    fleet.play("confirm", **SETTLE).ok()
    subject.as_before("kvm2")


@pytest.mark.slow
def test_a_guest_that_was_started_when_its_module_died_is_where_it_was_started(lab: Lab, fleet: Fleet, subject: Subject) -> None:
    """Killed while it watches the guest come up; the guest goes off before recover comes."""
    playing = fleet.start("resize", **{**MOVE, "migrate_settle_time": 60})
    journal = lab["kvm2"]
    eventually(lambda: "started" in [record["step"] for record in journal.records()], "the guest is started", timeout=180)
    playing.kill()
    journal.sh("kill -KILL $(ps -eo pid=,args= | awk '/destination_copy/ && !/awk/ { print $1 }')", check=False)
    subject.guest.wait().shut_down()
    fleet.play("recover", **SETTLE).ok()
    assert (subject.guest.hosts, subject.guest.state) == (["kvm2"], "shut off")
    journal.virsh("start", "web")
    fleet.play("revert", **SETTLE).ok()
    subject.as_before()


def test_a_guest_whose_agent_was_removed_is_confirmed_where_somebody_says_so(fleet: Fleet, subject: Subject) -> None:
    fleet.play("resize", **MOVE).ok()
    host = subject.guest.wait().host
    subject.guest.exec("sh", "-c", "(sleep 1; killall -9 qemu-ga; rm -f /usr/bin/qemu-ga /usr/sbin/qemu-ga) >/dev/null 2>&1 &")
    eventually(lambda: "error" in host.sh('virsh qemu-agent-command web \'{"execute": "guest-ping"}\' --timeout 2 2>&1 || echo error'), "the agent is gone")
    for timeout, words in ((0, "does not answer. If"), (2, "does not answer within 2 s. If")):
        one_paragraph(fleet.play("confirm", **{**SETTLE, "migrate_agent_timeout": timeout}), words, "without_agent=true", "or revert")
    fleet.play("confirm", "-e", "without_agent=true", **{**SETTLE, "migrate_agent_timeout": 2}).ok()
    assert subject.guest.state == "running"
