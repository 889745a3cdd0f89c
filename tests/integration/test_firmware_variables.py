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

PLACE = "/sys/firmware/efi/efivars"
VENDOR = "6b1d3b0e-5a0c-4c1e-9a4e-5f2f0c7d1a11"
ATTRIBUTES = r"\007\000\000\000"  # kept without power, readable for the boot loader and for the system


def add_variable(guest: Guest, name: str) -> None:
    """Write a new one, at once, as the firmware wants it. The kernel protects those that are there, since removing some has ruined machines."""
    guest.exec("sh", "-c", f"printf '{ATTRIBUTES}value of {name}' >{PLACE}/{name}-{VENDOR}")


def variables(guest: Guest) -> list[str]:
    """The values of those that `add_variable` wrote, in the order of their names."""
    return guest.wait().exec("sh", "-c", f"for file in {PLACE}/*-{VENDOR}; do tail -c +5 $file && echo; done").splitlines()


@pytest.fixture
def subject(lab: Lab, guests: Guests) -> Subject:
    """A guest whose firmware keeps a variable."""
    guest = guests.create("web", "kvm1", "--firmware", "uefi")
    subject = Subject(lab, guest, guest.write())
    add_variable(guest, "Before")
    return subject


@pytest.mark.parametrize("host", ["kvm2", pytest.param("kvm1", marks=pytest.mark.slow, id="in place")])
def test_variables_that_the_guest_wrote(fleet: Fleet, subject: Subject, host: str) -> None:
    """They are there after a resize, and for good after confirm."""
    guest = subject.guest
    fleet.play("resize", instance="web", flavor="medium", target_host=host).ok()
    assert (subject.runs_once_with_its_data(), variables(guest)) == (host, ["value of Before"])
    add_variable(guest, "There")
    fleet.play("confirm", instance="web").ok()
    guest.host.virsh("destroy", "web")
    guest.host.virsh("start", "web")
    assert (subject.runs_once_with_its_data(), variables(guest)) == (host, ["value of Before", "value of There"])


@pytest.mark.slow
@pytest.mark.parametrize("host", ["kvm2", pytest.param("kvm1", id="in place")])
def test_variables_of_the_switch_come_back(fleet: Fleet, subject: Subject, host: str) -> None:
    """With a revert, whatever the guest wrote since."""
    guest = subject.guest
    fleet.play("resize", instance="web", flavor="medium", target_host=host).ok()
    add_variable(guest, "Later")
    assert variables(guest) == ["value of Before", "value of Later"]
    fleet.play("revert", instance="web").ok()
    assert (subject.runs_once_with_its_data(), variables(guest)) == ("kvm1", ["value of Before"])
