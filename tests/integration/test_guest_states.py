# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Guests that neither run nor are off: each is refused with its way out, and stays as it is."""

from __future__ import annotations

import pytest
from support.definition import add, edited
from support.faults import Subject, eventually
from support.fleet import Fleet
from support.guest import Guest, Guests
from support.lab import Lab

PANIC = "o /b 0x505 1"  # the panic device, told as a guest's kernel would

pytestmark = pytest.mark.slow


@pytest.fixture
def guest(lab: Lab, guests: Guests) -> Guest:
    """One that can sleep, tells when it crashes, and is kept then."""
    guest, host = guests.create("web", "kvm1", start=False), lab["kvm1"]
    with edited(host, "web") as root:
        add(root, "<pm><suspend-to-mem enabled='yes'/></pm>")
        add(root.find("devices"), "<panic model='isa'/>")
        root.find("on_crash").text = "preserve"
    host.virsh("start", "web")
    return guest.wait()


def test_guests_that_neither_run_nor_are_off(lab: Lab, fleet: Fleet, guest: Guest) -> None:
    host, subject = lab["kvm1"], Subject(lab, guest, guest.write())
    boot_id = subject.boot_id

    def is_refused(state: str, *words: str) -> None:
        eventually(lambda: guest.state == state, f"the guest is {state}")
        error = fleet.play("migrate", instance="web").refused()
        assert [word for word in words if word not in error] == [], error
        assert (guest.hosts, guest.state) == (["kvm1"], state)

    host.virsh("suspend", "web")
    is_refused("paused", "web on kvm1 is paused", "virsh resume")
    host.virsh("resume", "web")
    subject.is_untouched(boot_id)

    guest.exec("sh", "-c", "(usleep 500000; echo mem >/sys/power/state) >/dev/null 2>&1 &")
    is_refused("pmsuspended", "web on kvm1 is pmsuspended", "virsh dompmwakeup")
    host.virsh("dompmwakeup", "web")
    eventually(lambda: guest.state == "running", "the guest is awake")
    subject.is_untouched(boot_id)

    host.virsh("managedsave", "web")
    is_refused("shut off", "The memory of the guest is saved (managed save)", "virsh managedsave-remove", "[managed_save]")
    host.virsh("start", "web")
    subject.is_untouched(boot_id)

    host.virsh("qemu-monitor-command", "web", "--hmp", PANIC)
    is_refused("crashed", "web on kvm1 is crashed", "virsh destroy")
    host.virsh("destroy", "web")
    fleet.play("migrate", instance="web", target_host="kvm2").ok()
    fleet.play("confirm", instance="web").ok()
    assert (guest.hosts, guest.state) == (["kvm2"], "shut off")


def test_a_guest_that_was_saved_after_the_switch(lab: Lab, fleet: Fleet, guest: Guest) -> None:
    """In place the layers stay that it will go on with."""
    host, subject = lab["kvm1"], Subject(lab, guest, guest.write())
    fleet.play("resize", instance="web", flavor="medium", target_host="kvm1").ok()
    boot_id = subject.boot_id
    host.virsh("managedsave", "web")
    assert "it is shut off (its memory was saved). It ran before." in fleet.play("confirm", instance="web").refused()
    assert "virsh managedsave-remove" in fleet.play("revert", instance="web").refused()
    host.virsh("start", "web")
    assert subject.boot_id == boot_id
    fleet.play("confirm", instance="web").ok()
    assert (subject.runs_once_with_its_data(), subject.boot_id) == ("kvm1", boot_id)
