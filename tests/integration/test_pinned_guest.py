# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A guest whose vCPUs are bound to CPUs of its host, and which sees NUMA nodes."""

from __future__ import annotations

import re

from support.definition import add, edited
from support.faults import Subject
from support.fleet import Fleet
from support.guest import Guest, Guests
from support.lab import Host, Lab

TUNING = "<cputune><vcpupin vcpu='0' cpuset='0'/><vcpupin vcpu='1' cpuset='1'/><emulatorpin cpuset='1'/></cputune>"
CELLS = "<numa><cell id='0' cpus='0' memory='192' unit='MiB'/><cell id='1' cpus='1' memory='192' unit='MiB'/></numa>"
_PINS = """
for task in /proc/$(cat /run/libvirt/qemu/web.pid)/task/*; do echo "$(cat $task/comm):$(awk '/^Cpus_allowed_list:/ { print $2 }' $task/status)"; done
"""
_NODES = """
for node in /sys/devices/system/node/node*; do echo "$(cat $node/cpulist) $(awk '/MemTotal:/ { print $4 }' $node/meminfo)"; done
"""


def pins(host: Host) -> dict[str, str]:
    """The CPUs that the host's kernel lets each bound thread run on: vCPUs by number, and QEMU's own."""
    found = dict(line.rsplit(":", 1) for line in host.sh(_PINS).splitlines())
    names = {"CPU 0": "0", "CPU 1": "1", "qemu-system": "emulator"}
    return {known: cpus for thread, cpus in found.items() for start, known in names.items() if thread.startswith(start)}


def cells(guest: Guest) -> list[tuple[str, float]]:
    """vCPUs and MiB of each NUMA node, as the guest sees them; its kernel keeps some of the memory."""
    lines = [line.split() for line in guest.wait().exec("sh", "-c", _NODES).splitlines()]
    return [(cpus, int(kib) / 1024) for cpus, kib in lines]


def are_even(found: list[tuple[str, float]], cpus: list[str], mib: int) -> bool:
    return [numbers for numbers, _memory in found] == cpus and all(0.6 * mib < memory <= mib for _numbers, memory in found)


def test_pins_and_numa_cells(lab: Lab, fleet: Fleet, guests: Guests) -> None:
    """The larger flavor is spread over the cells, and the pins are in force; revert brings all of it back."""
    guest, source = guests.create("web", "kvm1", flavor="medium", start=False), lab["kvm1"]
    with edited(source, "web") as root:
        add(root, TUNING)
        if root.find("cpu") is None:
            add(root, "<cpu/>")
        add(root.find("cpu"), CELLS)
    source.virsh("start", "web")
    subject, before, own = Subject(lab, guest, guest.wait().write()), guest.xml, {"0": "0", "1": "1", "emulator": "1"}
    assert pins(source) == own
    assert are_even(cells(guest), ["0", "1"], 192)

    fleet.resize("web", "large", target_host="kvm2").ok()
    assert subject.runs_once_with_its_data() == "kvm2"
    assert guest.look().is_flavor(fleet.flavors["large"])
    assert are_even(cells(guest), ["0", "1"], 256)
    assert pins(lab["kvm2"]) == own
    assert re.findall(r"<vcpupin vcpu='(\d)' cpuset='(\d)'/>", guest.xml) == [("0", "0"), ("1", "1")]

    fleet.play("revert", instance="web").ok()
    assert (subject.runs_once_with_its_data(), guest.xml) == ("kvm1", before)
    assert pins(source) == own
    assert are_even(cells(guest), ["0", "1"], 192)
