# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host says of itself: all guests count, stopped ones too, in a few libvirt calls; claims count once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.fleet import Fleet
from support.guest import Guests
from support.lab import IMAGES, Host, Lab

MANY = 300
RAM = 64
CALLS = "/tmp/libvirt-calls.log"
GATHER = f"""
- hosts: compute
  gather_facts: false
  become: true
  tasks:
    - kvmfleet.compute.host_facts:
        host: "{{{{ inventory_hostname }}}}"
        reserved_host_memory_mb: "{{{{ kvmfleet_reserved_host_memory_mb }}}}"
      environment:
        LIBVIRT_LOG_FILTERS: 1:rpc.netclient
        LIBVIRT_LOG_OUTPUTS: 1:file:{CALLS}
    - ansible.builtin.set_stats:
        data: "{{{{ {{inventory_hostname: kvmfleet_host}} }}}}"
"""
DEFINE = f"""
import libvirt
conn = libvirt.open("qemu:///system")
for number in range({MANY}):
    disk = f"{IMAGES}/crowd-{{number}}.raw"
    with open(disk, "wb") as image:
        image.truncate(2**30)
    conn.defineXML(f'''<domain type="qemu"><name>crowd-{{number}}</name><memory unit="MiB">{RAM}</memory><vcpu>2</vcpu>
      <os><type arch="x86_64">hvm</type></os>
      <devices><disk type="file"><driver name="qemu" type="raw"/><source file="{{disk}}"/><target dev="vda" bus="virtio"/></disk></devices></domain>''')
"""
UNDEFINE = f"""
import libvirt, os
conn = libvirt.open("qemu:///system")
for number in range({MANY}):
    conn.lookupByName(f"crowd-{{number}}").undefine()
    os.unlink(f"{IMAGES}/crowd-{{number}}.raw")
"""


@pytest.fixture
def crowd(lab: Lab):
    """Several hundred guests that are off, on kvm1."""
    lab["kvm1"].run("/usr/bin/python3", "-c", DEFINE)
    yield
    lab["kvm1"].run("/usr/bin/python3", "-c", UNDEFINE)


def facts(fleet: Fleet) -> dict[str, dict[str, Any]]:
    """The facts of all hosts."""
    playbook = Path(fleet.directory / "gather.yml")
    playbook.write_text(GATHER)
    return fleet.play(playbook).ok().stats


def calls(host: Host) -> int:
    """How many messages the last facts sent to libvirt."""
    count = int(host.run("grep", "--count", "RPC_CLIENT_MSG_TX_QUEUE", CALLS))
    host.run("rm", CALLS)
    return count


def test_several_hundred_guests(lab: Lab, fleet: Fleet, guests: Guests, crowd: None) -> None:
    """As many libvirt calls as on a host without guests; what a moved guest takes is charged to both hosts while it waits."""
    guest = guests.create("web", "kvm1", start=False)
    kvm1, kvm2 = (fleet.hosts[name]["kvmfleet_reserved_host_memory_mb"] for name in ("kvm1", "kvm2"))

    found = facts(fleet)
    assert calls(lab["kvm1"]) == calls(lab["kvm2"])
    assert len(found["kvm1"]["domains"]) == MANY + 1
    assert found["kvm1"]["memory_mb_used"] == kvm1 + MANY * RAM + 256
    assert found["kvm1"]["vcpus_used"] == MANY * 2 + 1
    assert found["kvm1"]["local_gb_used"] == MANY + 1
    assert found["kvm1"]["memory_mb"] == lab["kvm1"].memory_mb
    assert found["kvm2"]["memory_mb_used"] == kvm2

    fleet.vars["kvmfleet_scheduler"] = {"cpu_allocation_ratio": 1000.0}
    fleet.resize("web", "large").ok()
    found = facts(fleet)
    assert found["kvm1"]["memory_mb_used"] == kvm1 + MANY * RAM + 256
    assert found["kvm2"]["memory_mb_used"] == kvm2 + 512
    assert [claim["role"] for name in ("kvm1", "kvm2") for claim in found[name]["claims"]] == ["source", "destination"]

    fleet.play("confirm", instance="web").ok()
    assert guest.hosts == ["kvm2"]
