# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts that call the same thing differently, and whose networks differ."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from support.faults import Subject
from support.fleet import Fleet
from support.guest import Guest, Guests
from support.lab import Lab

BRIDGE = "prod0"


@pytest.fixture
def other_bridge(lab: Lab) -> Iterator[str]:
    """A bridge that only kvm2 has."""
    host = lab["kvm2"]
    host.sh(f"ip link add {BRIDGE} mtu 1400 type bridge && ip link set {BRIDGE} up")
    yield BRIDGE
    host.sh(f"ip link del {BRIDGE}")


def bridges(guest: Guest) -> list[str]:
    return re.findall(r"<source bridge='([^']+)'", guest.xml)


def test_a_bridge_of_another_name(lab: Lab, fleet: Fleet, guests: Guests, other_bridge: str) -> None:
    """The guest is plugged into what bears the same name of the fleet, if its frames fit; a revert brings the old bridge back."""
    guest = guests.create("web", "kvm1")
    subject, (own,) = Subject(lab, guest, guest.write()), bridges(guest)
    fleet.hosts["kvm1"]["kvmfleet_mappings"] = {"bridges": {"lan": own}}
    error = fleet.play("migrate", instance="web").refused()
    assert "kvm2: NetworkFilter: has no bridge lan in kvmfleet_mappings.bridges" in error

    fleet.hosts["kvm2"]["kvmfleet_mappings"] = {"bridges": {"lan": other_bridge}}
    assert f"map bridge {own} ({other_bridge} at the destination)" in fleet.play("plan", instance="web").ok().said
    boot_id = subject.boot_id
    error = fleet.play("migrate", instance="web").refused()
    assert f"the bridge {other_bridge} carries frames of 1400 bytes here, the guest sends up to 1500" in error
    subject.is_untouched(boot_id)

    lab["kvm2"].sh(f"ip link set {other_bridge} mtu 1500")
    fleet.play("migrate", instance="web").ok()
    assert (subject.runs_once_with_its_data(), bridges(guest)) == ("kvm2", [other_bridge])
    assert f"master {other_bridge}" in lab["kvm2"].run("ip", "link")
    fleet.play("revert", instance="web").ok()
    assert (subject.runs_once_with_its_data(), bridges(guest)) == ("kvm1", [own])
