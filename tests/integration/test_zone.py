# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The zone sticks (defect 1 of Nova): a guest leaves the zone of its current host only when told so."""

from __future__ import annotations

import pytest
from support.fleet import Fleet
from support.guest import Guests
from support.lab import Lab

pytestmark = pytest.mark.whole_fleet


@pytest.fixture
def roomy_south(fleet: Fleet) -> Fleet:
    """A fleet where a host of the other zone has far more room than any of the guest's own."""
    fleet.hosts["kvm3"]["kvmfleet_reserved_host_memory_mb"] = 0
    return fleet


def test_without_room_in_its_zone_a_guest_is_refused_and_goes_on_running(roomy_south: Fleet, guests: Guests, lab: Lab) -> None:
    """Each host is named with its reason and numbers; the guest notices nothing."""
    fleet = roomy_south
    guest = guests.create("web", "kvm1")
    boot_id, files, records = guest.look().boot_id, guest.host.files(), guest.host.records()
    fleet.free_memory("kvm2", 511)

    run = fleet.resize("web", "large")
    error = run.refused()
    assert "No host can take web" in error
    assert "ResizeToSameHostFilter" in run.verdicts["kvm1"]
    assert "RamFilter" in run.verdicts["kvm2"]
    assert "512" in run.verdicts["kvm2"]
    assert "511" in run.verdicts["kvm2"]
    assert "is in zone south; the guest stays in zone north of its current host kvm1" in run.verdicts["kvm3"]
    assert "is in zone south" in run.verdicts["kvm4"]
    assert run.changed == 0
    assert guest.look().boot_id == boot_id
    assert (guest.hosts, lab["kvm1"].files(), lab["kvm1"].records()) == (["kvm1"], files, records)


@pytest.mark.invariant(7)
def test_a_guest_made_without_a_zone_stays_in_that_of_its_host(roomy_south: Fleet, guests: Guests) -> None:
    """It moves to the other zone for `any` or that zone's name, and then stays there."""
    fleet = roomy_south
    guest = guests.create("web", "kvm1", start=False)

    def would_go_to(host: str, **extra: str | bool) -> None:
        assert "selected" in fleet.play("plan", instance="web", **extra).ok().verdicts[host]

    def goes_to(host: str, playbook: str, **extra: str | bool) -> None:
        assert fleet.play(playbook, instance="web", **extra).ok().migration["destination"] == host
        assert guest.hosts == [host]
        fleet.play("confirm", instance="web").ok()

    resize = {"flavor": "large", "resize_allow_resize_to_same_host": False}
    would_go_to("kvm2", **resize)
    goes_to("kvm3", "resize", **resize, zone="any")
    fleet.hosts["kvm1"]["kvmfleet_reserved_host_memory_mb"] = 0
    would_go_to("kvm4")
    goes_to("kvm1", "migrate", zone="north")
