# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Revert needs nothing of the destination but that it answers."""

from __future__ import annotations

from support.fleet import Fleet
from support.guest import Guests
from support.lab import Lab


def test_a_guest_that_died_at_its_destination_runs_again_at_its_source(lab: Lab, fleet: Fleet, guests: Guests) -> None:
    """It ran before the resize, so it runs after the revert, with the old flavor and the old data."""
    guest = guests.create("web", "kvm1")
    data, xml = guest.write(), guest.xml
    fleet.resize("web", "large").ok()
    assert guest.write() != data
    lab["kvm2"].virsh("destroy", "web")

    reverted = fleet.play("revert", instance="web").ok().migration
    assert reverted["status"] == "reverted"
    inside = guest.look()
    assert inside.is_flavor(fleet.flavors["small"])
    assert inside.data == data
    assert (guest.hosts, guest.xml) == (["kvm1"], xml)
    assert lab["kvm2"].leftovers() == []
