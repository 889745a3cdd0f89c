# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Nothing is deleted before the guest is proven to be at its destination."""

from __future__ import annotations

from support.fleet import Fleet
from support.guest import Guests
from support.lab import Lab


def test_a_guest_that_died_at_its_destination_is_not_confirmed(lab: Lab, fleet: Fleet, guests: Guests) -> None:
    """The source copy stays; confirm works once the guest runs again."""
    guest = guests.create("web", "kvm1")
    data = guest.write()
    fleet.resize("web", "large", migrate_agent_timeout=0).ok()
    lab["kvm2"].virsh("destroy", "web")
    sealed = lab["kvm1"].files()

    assert "web is not confirmed" in fleet.play("confirm", instance="web").refused()
    assert lab["kvm1"].files() == sealed
    assert [record["status"] for record in lab["kvm1"].records()] == ["finished"]

    lab["kvm2"].virsh("start", "web")
    fleet.play("confirm", instance="web").ok()
    assert lab["kvm1"].files() == []
    assert guest.look().data == data
