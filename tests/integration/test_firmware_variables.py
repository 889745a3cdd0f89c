# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a UEFI guest wrote into the variables of its firmware, where boot entries and the keys of secure boot are."""

from __future__ import annotations

import pytest
from support.faults import Subject
from support.fleet import Fleet
from support.guest import Guest, Guests
from support.lab import Lab

VARIABLE = "/sys/firmware/efi/efivars/KvmfleetTest-6b1d3b0e-5a0c-4c1e-9a4e-5f2f0c7d1a11"
ATTRIBUTES = r"\007\000\000\000"  # kept without power, readable for the boot loader and for the system


def set_variable(guest: Guest, text: str) -> None:
    """Write it at once, as the firmware wants it; the kernel protects one that it does not know from `rm`."""
    guest.exec("sh", "-c", f"chattr -i {VARIABLE} 2>/dev/null; printf '{ATTRIBUTES}{text}' >{VARIABLE}")


def variable(guest: Guest) -> str:
    return guest.exec("tail", "-c", "+5", VARIABLE)


@pytest.mark.parametrize("host", ["kvm2", pytest.param("kvm1", marks=pytest.mark.slow, id="in place")])
def test_variables_that_the_guest_wrote(lab: Lab, fleet: Fleet, guests: Guests, host: str) -> None:
    """They are there after a resize and for good after confirm; revert brings back those of the switch."""
    guest = guests.create("web", "kvm1", "--firmware", "uefi")
    subject = Subject(lab, guest, guest.write())
    set_variable(guest, "as of the switch")
    fleet.play("resize", instance="web", flavor="medium", target_host=host).ok()
    assert (subject.runs_once_with_its_data(), variable(guest)) == (host, "as of the switch")
    set_variable(guest, "later")
    fleet.play("revert", instance="web").ok()
    assert (subject.runs_once_with_its_data(), variable(guest)) == ("kvm1", "as of the switch")

    fleet.play("resize", instance="web", flavor="medium", target_host=host).ok()
    set_variable(guest, "at the destination")
    fleet.play("confirm", instance="web").ok()
    guest.host.virsh("destroy", "web")
    guest.host.virsh("start", "web")
    assert (subject.runs_once_with_its_data(), variable(guest)) == (host, "at the destination")
