# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts that call the same thing differently, and whose networks differ."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from support.definition import add_devices
from support.faults import Subject
from support.fleet import Fleet
from support.guest import Guest, Guests
from support.lab import Lab

BRIDGE = "prod0"
NETWORK = "guests"
NICS = """
<interface type='network'><mac address='52:54:00:6e:00:01'/><source network='fleet'/><model type='e1000e'/></interface>
<interface type='user'><mac address='52:54:00:6e:00:02'/><model type='rtl8139'/></interface>
<interface type='mcast'><mac address='52:54:00:6e:00:03'/><source address='230.0.0.1' port='5558'/><model type='vmxnet3'/></interface>
"""
_CARDS = """
for device in /sys/bus/pci/devices/*; do
  [ "$(cat $device/class)" = 0x020000 ] && echo "${device##*/} $(cat $device/vendor):$(cat $device/device)"
done
cat /sys/class/net/eth0/address
"""


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


@pytest.fixture
def other_network(lab: Lab) -> Iterator[str]:
    """A libvirt network that only kvm2 has, and a way for multicast on both hosts."""
    text = f"<network><name>{NETWORK}</name><forward mode='bridge'/><bridge name='br0'/></network>"
    lab["kvm2"].sh(f'echo "{text}" >/tmp/network.xml && virsh -q net-define /tmp/network.xml && virsh -q net-start {NETWORK} && rm /tmp/network.xml')
    for name in ("kvm1", "kvm2"):
        lab[name].sh("ip route add 230.0.0.0/8 dev br0")
    yield NETWORK
    for name in ("kvm1", "kvm2"):
        lab[name].sh("ip route del 230.0.0.0/8 dev br0")
    lab["kvm2"].sh(f"virsh -q net-destroy {NETWORK}; virsh -q net-undefine {NETWORK}")


def macs(guest: Guest) -> list[str]:
    """Of the network cards that QEMU runs."""
    return re.findall(r"type=nic,.*macaddr=([0-9a-f:]+)", guest.host.virsh("qemu-monitor-command", "web", "--hmp", "info network"))


@pytest.mark.slow
def test_four_kinds_of_network_interfaces(lab: Lab, fleet: Fleet, guests: Guests, other_bridge: str, other_network: str) -> None:
    """A bridge, a network, user networking and a multicast group, with four models of cards: the guest finds all of them where they were."""
    guest = guests.create("web", "kvm1", start=False)
    add_devices(lab["kvm1"], "web", NICS)
    lab["kvm1"].virsh("start", "web")
    subject, (own,) = Subject(lab, guest, guest.wait().write()), bridges(guest)
    definition, cards, found = guest.xml, guest.exec("sh", "-c", _CARDS), macs(guest)
    assert sorted(re.findall(r"0x(\w+):0x(\w+)", cards)) == [("10ec", "8139"), ("15ad", "07b0"), ("1af4", "1041"), ("8086", "10d3")]
    assert len(found) == 4

    lab["kvm2"].sh(f"ip link set {other_bridge} mtu 1500")
    fleet.hosts["kvm1"]["kvmfleet_mappings"] = {"bridges": {"lan": own}, "networks": {"prod": "fleet"}}
    fleet.hosts["kvm2"]["kvmfleet_mappings"] = {"bridges": {"lan": other_bridge}, "networks": {"prod": other_network}}
    said = fleet.play("plan", instance="web").ok().said
    assert f"map network fleet ({other_network} at the destination)" in said
    assert "the destination must be in the network of this multicast group" in said
    fleet.play("migrate", instance="web").ok()
    assert (subject.runs_once_with_its_data(), guest.exec("sh", "-c", _CARDS), macs(guest)) == ("kvm2", cards, found)
    assert (bridges(guest), re.findall(r"<source network='([^']+)'", guest.xml)) == ([other_bridge], [other_network])
    fleet.play("revert", instance="web").ok()
    assert (subject.runs_once_with_its_data(), guest.exec("sh", "-c", _CARDS), macs(guest)) == ("kvm1", cards, found)
    assert guest.xml == definition
