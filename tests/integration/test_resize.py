# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The main job: a guest gets a larger flavor on another host, and may go back or stay."""

from __future__ import annotations

import pytest
from support.fleet import Fleet
from support.guest import Guests
from support.lab import Lab

pytestmark = pytest.mark.whole_fleet


@pytest.mark.invariant(9)
def test_resize_to_another_host_back_and_there_for_good(lab: Lab, fleet: Fleet, guests: Guests) -> None:
    """vCPUs, memory and disk grow, the rest stays; the source is sealed until revert reopens it or confirm removes it. No fact is read as a variable."""
    (fleet.directory / "ansible.cfg").write_text("[defaults]\ninject_facts_as_vars = False\n")
    guest = guests.create("web", "kvm1")
    data, identity, xml = guest.write(), guest.identity, guest.xml
    lab["kvm1"].virsh("autostart", "web")

    moved = fleet.resize("web", "large").ok().migration
    assert (moved["source"], moved["destination"], moved["status"], moved["in_place"]) == ("kvm1", "kvm2", "finished", False)
    inside = guest.look()
    assert inside.is_flavor(fleet.flavors["large"])
    assert inside.data == data
    assert guest.hosts == ["kvm2"]
    assert guest.identity == identity

    sealed = [path for path in lab["kvm1"].files() if "web" in path]
    assert len(sealed) == 1
    assert ".sealed-" in sealed[0]
    assert "failed to get domain" in lab["kvm1"].attempt("virsh", "start", "web").stderr
    assert [(host, claim["instance_name"]) for host in ("kvm1", "kvm2") for claim in lab[host].records("claims")] == [("kvm1", "web"), ("kvm2", "web")]

    fleet.play("revert", instance="web").ok()
    inside = guest.look()
    assert inside.is_flavor(fleet.flavors["small"])
    assert inside.data == data
    assert (guest.hosts, guest.xml) == (["kvm1"], xml)
    assert "Autostart:      enable" in lab["kvm1"].virsh("dominfo", "web")
    assert lab["kvm2"].leftovers() == []

    fleet.resize("web", "large").ok()
    boot_id = guest.look().boot_id
    fleet.play("confirm", instance="web").ok()
    inside = guest.look()
    assert inside.is_flavor(fleet.flavors["large"])
    assert (inside.data, inside.boot_id) == (data, boot_id)
    assert "Autostart:      enable" in lab["kvm2"].virsh("dominfo", "web")
    assert [line for line in lab.leftovers() if "web" in line] == ["kvm2: /var/lib/libvirt/images/web.qcow2", "kvm2: domain web"]
    assert all(not lab[name].records("claims") for name in lab.hosts)
