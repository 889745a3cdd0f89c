# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A guest that is off stays off, whatever becomes of it, and keeps its NVRAM and autostart; whatever is done twice changes nothing the second time."""

from __future__ import annotations

import pytest
from support.fleet import Fleet
from support.guest import Guests
from support.lab import Lab

NVRAM = "/var/lib/libvirt/qemu/nvram"


@pytest.mark.invariant(10)
def test_a_stopped_guest_stays_stopped(lab: Lab, fleet: Fleet, guests: Guests) -> None:
    """Through resize, revert and confirm on another host; confirm leaves nothing at the source."""
    guest = guests.create("web", "kvm1", "--firmware", "uefi", start=False)
    lab["kvm1"].virsh("start", "web")
    lab["kvm1"].virsh("destroy", "web")
    lab["kvm1"].virsh("autostart", "web")
    identity, nvram = guest.identity, lab["kvm1"].files(NVRAM)
    firmware = lab["kvm1"].sha256(*nvram)

    def is_off(host: str, flavor: str) -> None:
        assert (guest.hosts, guest.state) == ([host], "shut off")
        assert guest.defined == fleet.flavors[flavor]
        assert guest.identity == identity
        assert lab[host].sha256(*nvram) == firmware
        assert "Autostart:      enable" in lab[host].virsh("dominfo", "web")

    def again(playbook: str, **extra: str | bool) -> None:
        assert fleet.play(playbook, instance="web", **extra).ok().changed == 0

    moved = fleet.resize("web", "large").ok().migration
    assert (moved["was_running"], moved["downtime_seconds"]) == (False, None)
    is_off("kvm2", "large")
    again("resize", flavor="large", resize_allow_resize_to_same_host=False)

    fleet.play("revert", instance="web").ok()
    is_off("kvm1", "small")
    assert lab["kvm2"].files(NVRAM) == []
    again("revert")

    fleet.resize("web", "large").ok()
    fleet.play("confirm", instance="web").ok()
    is_off("kvm2", "large")
    assert lab["kvm1"].files() + lab["kvm1"].files(NVRAM) == []
    again("confirm")
