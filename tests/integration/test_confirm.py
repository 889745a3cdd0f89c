# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Nothing is deleted before the guest is proven to be at its destination, and until then there is a way back."""

from __future__ import annotations

import pytest
from support.faults import eventually, impatient, one_paragraph
from support.fleet import Fleet
from support.guest import Guests
from support.lab import Lab


@pytest.mark.invariant(2)
@pytest.mark.slow
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


def test_what_has_waited_long_enough_is_confirmed_and_what_cannot_be_is_left_for_the_next_time(lab: Lab, fleet: Fleet, guests: Guests) -> None:
    """A source that is away hinders its own guest only."""
    impatient(lab, fleet)
    moved, grown = guests.create("web", "kvm1"), guests.create("db", "kvm2")
    data = moved.write()
    fleet.resize("web", "medium", target_host="kvm2").ok()
    fleet.play("resize", instance="db", flavor="medium").ok()
    fleet.vars["kvmfleet_resize_confirm_window"] = 3600
    assert fleet.play("auto_confirm").ok().changed == 0

    fleet.vars["kvmfleet_resize_confirm_window"] = 1
    lab.call("host", "kill", "kvm1")
    try:
        one_paragraph(fleet.play("auto_confirm"), "1 of 2 operations could not be confirmed (web)", "kvm1")
    finally:
        lab.call("host", "start", "kvm1")
    assert {record["instance_name"]: record["status"] for record in lab["kvm2"].records()} == {"web": "finished", "db": "confirmed"}
    assert lab["kvm1"].files()

    assert fleet.play("auto_confirm").ok().changed
    assert [lab[host].records()[-1]["status"] for host in ("kvm1", "kvm2")] == ["confirmed"] * 2
    assert lab["kvm1"].files() == []
    assert (moved.hosts, grown.hosts, moved.look().data) == (["kvm2"], ["kvm2"], data)


@pytest.mark.slow
def test_a_source_that_is_lost_in_mid_confirm_hinders_its_own_guest_only(lab: Lab, fleet: Fleet, guests: Guests) -> None:
    """The window of the next one has passed too, and it is confirmed in the same run."""
    impatient(lab, fleet)
    moved, grown = guests.create("a-web", "kvm1"), guests.create("b-db", "kvm2")
    fleet.resize("a-web", "medium", target_host="kvm2").ok()
    fleet.play("resize", instance="b-db", flavor="medium").ok()
    fleet.vars["kvmfleet_resize_confirm_window"] = 1
    playing = fleet.start("auto_confirm")
    eventually(lambda: "Apply | Prove the copy at the destination" in playing.output, "confirm begins")
    lab.call("host", "kill", "kvm1")
    try:
        one_paragraph(playing.wait(), "Remove the sealed copy at the source: kvm1 is unreachable", "a-web is still open. Confirm goes on where it stopped")
    finally:
        lab.call("host", "start", "kvm1")
    statuses = {record["instance_name"]: record["status"] for record in lab["kvm2"].records()}
    assert (statuses["a-web"], statuses["b-db"]) == ("confirming", "confirmed")
    assert fleet.play("auto_confirm").ok().changed
    assert [lab[host].records()[-1]["status"] for host in ("kvm1", "kvm2")] == ["confirmed"] * 2
    assert (moved.hosts, grown.hosts) == (["kvm2"], ["kvm2"])
