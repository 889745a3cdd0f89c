# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Growing on the host where the guest is: chosen when it fits, copies nothing, can be undone, and confirm merges while the guest runs."""

from __future__ import annotations

from support.fleet import Fleet
from support.guest import Guests
from support.lab import Lab

MIB = 2**20


def test_resize_in_place_back_and_for_good(lab: Lab, fleet: Fleet, guests: Guests) -> None:
    """The base image stays as it is throughout."""
    guest = guests.create("web", "kvm1")
    data, identity, host = guest.write(16), guest.identity, guest.host
    base = host.run("qemu-img", "info", "-U", "-f", "qcow2", guest.disk).split("backing file: ")[1].split()[0]
    base_digest = host.sha256(base)

    sent = host.sent_bytes
    moved = fleet.play("resize", instance="web", flavor="large").ok().migration
    assert (moved["in_place"], moved["source"], moved["destination"], moved["overlay_bytes"]) == (True, "kvm1", "kvm1", 0)
    assert host.sent_bytes - sent < MIB
    inside = guest.look()
    assert inside.is_flavor(fleet.flavors["large"])
    assert inside.data == data
    assert guest.identity == identity
    assert guest.disk_paths != [guest.disk]

    assert guest.write() != data
    fleet.play("revert", instance="web").ok()
    inside = guest.look()
    assert inside.is_flavor(fleet.flavors["small"])
    assert inside.data == data
    assert host.files() == [guest.disk]

    fleet.play("resize", instance="web", flavor="large").ok()
    data = guest.write(8)
    boot_id = guest.look().boot_id
    fleet.play("confirm", instance="web").ok()
    inside = guest.look()
    assert inside.is_flavor(fleet.flavors["large"])
    assert (inside.boot_id, inside.data) == (boot_id, data)
    assert (guest.disk_paths, host.files()) == ([guest.disk], [guest.disk])
    assert host.virsh("domblklist", "web").split()[1] == guest.disk
    assert host.sha256(base) == base_digest
    assert host.records("claims") == []
