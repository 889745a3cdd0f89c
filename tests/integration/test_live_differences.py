# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What somebody plugged into a running guest, or changed of it for now, does not get lost in silence with the restart that a move is."""

from __future__ import annotations

import pytest
from support.definition import add_devices
from support.faults import QUICK, SWITCH, play_and_meddle, play_to_death
from support.fleet import Fleet
from support.guest import Guest, Guests
from support.lab import IMAGES, Lab

EXTRA = f"{IMAGES}/extra.qcow2"
MARK = "kept while it ran"
NIC = "52:54:00:6e:01:01"
STOP = "Move | Stop, prove off and seal the guest"


@pytest.fixture
def plugged(lab: Lab, guests: Guests) -> Guest:
    """A running guest with a disk and a network card that its definition does not have."""
    guest, host = guests.create("web", "kvm1", start=False), lab["kvm1"]
    add_devices(host, "web", 4 * "<controller type='pci' model='pcie-root-port'/>")
    host.virsh("start", "web")
    guest.wait()
    host.sh(f"qemu-img create -q -f qcow2 {EXTRA} 64M")
    host.virsh("attach-disk", "web", EXTRA, "vdb", "--driver", "qemu", "--subdriver", "qcow2", "--targetbus", "virtio", "--live")
    host.virsh("attach-interface", "web", "bridge", "br0", "--mac", NIC, "--model", "virtio", "--live")
    guest.exec("sh", "-c", f"until [ -b /dev/vdb ]; do sleep 0.1; done; printf '{MARK}' | dd of=/dev/vdb conv=notrunc 2>/dev/null; sync")
    return guest


def mark(guest: Guest) -> str:
    return guest.exec("sh", "-c", f"head -c {len(MARK)} /dev/vdb")


def cards(guest: Guest) -> str:
    return guest.exec("sh", "-c", "cat /sys/class/net/*/address")


@pytest.mark.timeout(1500)
def test_what_was_plugged_in_is_kept_where_the_caller_says_so(lab: Lab, fleet: Fleet, plugged: Guest) -> None:
    """Without a word the plan refuses and names all of it. It moves with `keep`, and a revert brings the guest back with all, its definition as before."""
    boot_id, definition = plugged.look().boot_id, plugged.xml
    for playbook in ("plan", "migrate"):
        error = fleet.play(playbook, instance="web").refused()
        assert f"disk vdb: {EXTRA} now, not there by the definition" in error
        assert f"interface {NIC}: br0 now, not there by the definition" in error
        assert "2. repeat with live_differences=keep" in error
    assert (plugged.hosts, plugged.xml, plugged.look().boot_id) == (["kvm1"], definition, boot_id)

    run = fleet.play("migrate", instance="web", live_differences="keep").ok()
    assert f"disk vdb: {EXTRA} now" in "".join(run.migration["live_differences"]["found"])
    assert (plugged.hosts, mark(plugged), NIC in cards(plugged)) == (["kvm2"], MARK, True)
    assert (EXTRA in plugged.xml, NIC in plugged.xml) == (True, True)
    fleet.play("revert", instance="web").ok()
    assert (plugged.hosts, mark(plugged), NIC in cards(plugged), plugged.xml) == (["kvm1"], MARK, True, definition)


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_what_was_plugged_in_is_dropped_where_the_caller_says_so(lab: Lab, fleet: Fleet, plugged: Guest) -> None:
    """Its file stays where it is. What somebody plugs in after the plan is not lost with it: the guest is not stopped."""
    host, boot_id = lab["kvm1"], plugged.look().boot_id
    host.sh(f"qemu-img create -q -f qcow2 {IMAGES}/later.qcow2 64M")

    def meddle() -> None:
        host.virsh("attach-disk", "web", f"{IMAGES}/later.qcow2", "vdc", "--driver", "qemu", "--subdriver", "qcow2", "--targetbus", "virtio", "--live")

    error = play_and_meddle(fleet, STOP, meddle, "migrate", instance="web", live_differences="drop").refused()
    assert f"disk vdc: {IMAGES}/later.qcow2 now, not there by the definition" in error
    assert (plugged.hosts, plugged.look().boot_id, mark(plugged)) == (["kvm1"], boot_id, MARK)

    host.virsh("detach-disk", "web", "vdc", "--live")
    host.sh(f"rm {IMAGES}/later.qcow2")
    run = fleet.play("migrate", instance="web", live_differences="drop").ok()
    assert run.migration["live_differences"]["answer"] == "drop"
    assert f"disk vdb: {EXTRA} now" in "".join(run.migration["live_differences"]["found"])
    assert (plugged.hosts, plugged.exec("sh", "-c", "ls /dev/vd?"), NIC in cards(plugged)) == (["kvm2"], "/dev/vda", False)
    assert EXTRA in host.files()
    fleet.play("confirm", instance="web").ok()
    assert EXTRA in host.files()
    host.sh(f"rm {EXTRA}")


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_what_would_be_kept_is_there_again_when_the_run_has_died(lab: Lab, fleet: Fleet, plugged: Guest) -> None:
    """The guest is back with all that it had, and its definition is as before."""
    definition = plugged.xml
    fleet.vars.update(QUICK)
    assert play_to_death(fleet, SWITCH, "migrate", instance="web", live_differences="keep")
    fleet.play("recover", instance="web").ok()
    assert (plugged.hosts, mark(plugged), NIC in cards(plugged), plugged.xml) == (["kvm1"], MARK, True, definition)
