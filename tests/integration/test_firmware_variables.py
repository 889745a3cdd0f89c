# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a UEFI guest wrote into the variables of its firmware, where boot entries and the keys of secure boot are."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

import pytest
from support.faults import Subject, one_paragraph, write_files
from support.firmware import add_variable, files_of, place_of, variables
from support.fleet import Fleet
from support.guest import Guest, Guests
from support.lab import Host, Lab


def made_anew(host: Host, guest: Guest) -> str:
    """Make and start a guest on the host that has the name and the firmware of another one, and no disk; where its variables are."""
    place = place_of(guest)
    kind = re.findall(r"<domain type='(\w+)'", guest.host.virsh("dumpxml", guest.name))[0]
    system = (
        "<os firmware='efi'><type arch='x86_64' machine='q35'>hvm</type><firmware><feature enabled='no' name='secure-boot'/></firmware></os>"
        "<features><acpi/></features>"
    )
    text = f"<domain type='{kind}'><name>{guest.name}</name><memory unit='MiB'>128</memory>{system}</domain>"
    write_files(host, {"/tmp/anew.xml": text})
    host.sh(f"virsh --quiet define /tmp/anew.xml && rm /tmp/anew.xml && virsh --quiet start {guest.name}")
    return place


@pytest.fixture
def subject(lab: Lab, guests: Guests) -> Subject:
    """A guest whose firmware keeps a variable."""
    guest = guests.create("web", "kvm1", "--firmware", "uefi")
    subject = Subject(lab, guest, guest.write())
    add_variable(guest, "Before")
    return subject


@pytest.mark.invariant(10)
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
def test_variables_of_the_switch_come_back_in_place(fleet: Fleet, subject: Subject) -> None:
    """With a revert, whatever the guest wrote since."""
    guest = subject.guest
    fleet.play("resize", instance="web", flavor="medium", target_host="kvm1").ok()
    add_variable(guest, "Later")
    assert variables(guest) == ["value of Before", "value of Later"]
    fleet.play("revert", instance="web").ok()
    assert (subject.runs_once_with_its_data(), variables(guest)) == ("kvm1", ["value of Before"])


@pytest.fixture
def full(subject: Subject) -> Iterator[str]:
    """The filesystem that its variables lie on has no room but for them; where they lie."""
    host, place = subject.guest.host, place_of(subject.guest)
    directory, size = os.path.dirname(place), int(subject.guest.host.run("stat", "--format=%s", place))
    subject.guest.shut_down()
    host.sh(f"cp -a {place} /tmp/variables && mount -t tmpfs -o size={size + 65536} none {directory} && cp -a /tmp/variables {place}")
    host.virsh("start", subject.guest.name)
    yield place
    host.sh(f"umount -l {directory}; rm -f /tmp/variables")


@pytest.mark.slow
def test_variables_that_cannot_be_kept(fleet: Fleet, subject: Subject, full: str) -> None:
    """In place: half of a copy is none, so that the guest is not even stopped."""
    boot_id = subject.boot_id
    error = one_paragraph(fleet.play("resize", instance="web", flavor="medium", target_host="kvm1"), "no copy of the firmware variables can be kept")
    assert "bytes free" in error
    subject.is_untouched(boot_id)
    assert variables(subject.guest) == ["value of Before"]
    assert subject.guest.host.files(os.path.dirname(full)) == [full]


def test_variables_of_the_switch_come_back_although_a_guest_of_that_name_was_made_meanwhile(fleet: Fleet, subject: Subject) -> None:
    """That one has variables of its own, and while it is there a revert leaves the other one running where it is."""
    guest, source = subject.guest, subject.lab.hosts["kvm1"]
    fleet.play("resize", instance="web", flavor="medium", target_host="kvm2").ok()
    add_variable(guest, "Later")
    boot_id = subject.boot_id
    place = made_anew(source, guest)
    own = source.run("stat", "--format=%i", place)
    one_paragraph(fleet.play("revert", instance="web"), "another guest has this name now", "virsh domrename")
    assert (source.run("stat", "--format=%i", place), source.virsh("domstate", "web")) == (own, "running")
    source.virsh("destroy", "web")
    source.virsh("undefine", "web", "--nvram")
    assert subject.boot_id == boot_id
    fleet.play("revert", instance="web").ok()
    assert (subject.runs_once_with_its_data(), variables(guest)) == ("kvm1", ["value of Before"])


@pytest.mark.slow
def test_there_and_back_for_good_twice(lab: Lab, fleet: Fleet, subject: Subject) -> None:
    """Nothing of the variables stays where the guest has left, so that they exist once; those of each stay are there in the end."""
    guest, written = subject.guest, ["Before"]
    name = os.path.basename(place_of(guest))
    for stay, (host, other) in enumerate((("kvm2", "kvm1"), ("kvm1", "kvm2")) * 2):
        fleet.play("migrate", instance="web", target_host=host).ok()
        assert [file.startswith(f"{name}.sealed-") for file in files_of(lab[other])] == [True]
        fleet.play("confirm", instance="web").ok()
        assert (subject.runs_once_with_its_data(), variables(guest)) == (host, [f"value of {variable}" for variable in written])
        assert (files_of(lab[host]), files_of(lab[other]), lab[other].domains) == ([name], [], [])
        written.append(f"Stay{stay}")
        add_variable(guest, written[-1])
