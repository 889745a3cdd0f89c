# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Nothing is deleted before the guest is proven to be at its destination, and until then there is a way back."""

from __future__ import annotations

from support.fleet import Fleet
from support.guest import Guests
from support.lab import Lab


def test_a_guest_that_died_at_its_destination_is_not_confirmed_but_may_be_reverted(lab: Lab, fleet: Fleet, guests: Guests) -> None:
    """It ran before the resize, so it runs after the revert, with the old flavor and the data of that time."""
    guest = guests.create("web", "kvm1")
    data, xml = guest.write(), guest.xml
    fleet.resize("web", "large").ok()
    assert guest.write() != data
    lab["kvm2"].virsh("destroy", "web")
    sealed = lab["kvm1"].files()

    assert "web is not confirmed" in fleet.play("confirm", instance="web").refused()
    assert lab["kvm1"].files() == sealed
    assert [lab[host].records()[-1]["status"] for host in ("kvm1", "kvm2")] == ["finished", "finished"]

    assert fleet.play("revert", instance="web").ok().migration["status"] == "reverted"
    inside = guest.look()
    assert inside.is_flavor(fleet.flavors["small"])
    assert inside.data == data
    assert (guest.hosts, guest.xml) == (["kvm1"], xml)
    assert lab["kvm2"].leftovers() == []
