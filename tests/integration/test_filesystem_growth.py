# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""With a larger disk the filesystem in it grows when it is asked for, as the guest itself says, and an operation never fails of it."""

from __future__ import annotations

import pytest
from support.fleet import Fleet
from support.guest import Guest, Guests
from support.lab import Lab

MIB = 2**20
BROKEN = "printf '#!/bin/sh\\necho out of order >&2\\nexit 2\\n' >/usr/bin/growpart && sync"


def root_mib(guest: Guest) -> int:
    """What the guest says that its root filesystem has room for."""
    return int(guest.exec("df", "-P", "-k", "/").splitlines()[1].split()[1]) // 1024


def test_the_root_filesystem_grows_in_place_and_goes_back_with_a_revert(lab: Lab, fleet: Fleet, guests: Guests) -> None:
    """A second run has nothing to do."""
    guest = guests.create("web", "kvm1")
    data, before = guest.write(), root_mib(guest)
    assert before < 464

    grown = fleet.play("resize", instance="web", flavor="large", grow_filesystem=True).ok().migration["filesystem"]
    assert (grown["answer"], grown["device"], grown["type"], grown["mountpoint"]) == ("grown", "/dev/vda2", "ext4", "/")
    assert (grown["after"]["disk_bytes"], grown["before"]["filesystem_bytes"] // MIB) == (3072 * MIB, before)
    assert grown["after"]["filesystem_bytes"] // MIB == root_mib(guest) > 2700
    assert guest.look().data == data

    again = fleet.play("resize", instance="web", flavor="large", grow_filesystem=True).ok()
    assert (again.changed, "fills the disk of 3072 MiB already" in again.said) == (0, True)

    fleet.play("revert", instance="web").ok()
    assert (root_mib(guest), guest.look().data) == (before, data)


@pytest.mark.slow
def test_the_same_command_again_grows_what_was_not_asked_for_and_a_move_does_not_fail_of_it(lab: Lab, fleet: Fleet, guests: Guests) -> None:
    """A guest moves as it is, its filesystem grows at the destination; with a growpart that fails, a guest has still moved. A plan only looks into it."""
    guest = guests.create("web", "kvm1")
    before = root_mib(guest)
    plan = fleet.play("plan", instance="web", flavor="large", grow_filesystem=True).ok()
    assert "/dev/vda2 (ext4 on /) would be grown from" in plan.said
    assert (plan.changed, root_mib(guest)) == (0, before)

    assert fleet.resize("web", "large").ok().migration["filesystem"]["answer"] == "not_asked"
    assert root_mib(guest) == before

    assert fleet.resize("web", "large", "--check", grow_filesystem=True).ok().changed == 1
    assert root_mib(guest) == before
    assert fleet.resize("web", "large", grow_filesystem=True).ok().changed == 1
    assert (guest.hosts, root_mib(guest) > 2700) == (["kvm2"], True)

    fleet.play("revert", instance="web").ok()
    guest.exec("sh", "-c", BROKEN)
    moved = fleet.resize("web", "large", grow_filesystem=True).ok().migration
    assert (moved["status"], moved["filesystem"]["answer"], moved["filesystem"]["code"]) == ("finished", "not_grown", "program_failed")
    assert moved["filesystem"]["reason"] == "/usr/bin/growpart ended with status 2: out of order."
    assert (guest.hosts, root_mib(guest)) == (["kvm2"], before)
    fleet.play("confirm", instance="web").ok()
