# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The libvirt of a single user beside that of the host."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from support.fleet import Fleet
from support.lab import Host, Lab

GATHER = """
- hosts: compute
  gather_facts: false
  become: true
  tasks:
    - kvmfleet.compute.host_facts:
        host: "{{ inventory_hostname }}"
        uri: "{{ uri }}"
    - ansible.builtin.set_stats:
        data: "{{ {inventory_hostname: kvmfleet_host} }}"
"""
DESK = "<domain type='qemu'><name>desk</name><memory unit='MiB'>64</memory><vcpu>1</vcpu><os><type arch='x86_64' machine='q35'>hvm</type></os></domain>"
SESSION = ("sudo", "-u", "operator", "-H", "virsh", "--quiet", "--connect", "qemu:///session")
END = "kill $(ps -u operator -o pid=,comm= | awk '$2 ~ /^(libvirtd|virtlogd|virtqemud|qemu-system-)/ { print $1 }')"


@pytest.fixture
def desk(lab: Lab) -> Iterator[Host]:
    """A host on which somebody runs a guest in a libvirt of his own."""
    host = lab["kvm1"]
    host.sh(f"cat >/home/operator/desk.xml <<'END'\n{DESK}\nEND")
    host.run(*SESSION, "define", "/home/operator/desk.xml")
    yield host
    host.run(*SESSION, "destroy", "desk", check=False)
    host.run(*SESSION, "undefine", "desk", check=False)
    host.sh(f"{END}; rm /home/operator/desk.xml", check=False)


def test_a_guest_in_the_libvirt_of_a_user_is_none_of_the_host(fleet: Fleet, desk: Host) -> None:
    """It cannot be moved, and what it takes of the memory is not counted: that is what kvmfleet_reserved_host_memory_mb is for."""
    playbook = fleet.directory / "gather.yml"
    playbook.write_text(GATHER)

    def usage() -> dict[str, Any]:
        facts = fleet.play(playbook, uri="qemu:///system").ok().stats["kvm1"]
        return {key: facts[key] for key in ("domains", "instances", "memory_mb_used", "vcpus_used", "macs")}

    before = usage()
    desk.run(*SESSION, "start", "desk")
    assert "guest=desk," in desk.sh("ps -u operator -o args=")
    assert usage() == before
    assert "No host defines the instance 'desk': 2 hosts were searched" in fleet.play("migrate", instance="desk").refused()
    error = fleet.play(playbook, uri="qemu:///session").refused()
    assert "uri is 'qemu:///session', the libvirt of a single user" in error
    assert "leave uri at qemu:///system" in error
    assert desk.sh("ps -u root -o args= | grep -c '[l]ibvirtd.*--timeout'", check=False) == "0"
