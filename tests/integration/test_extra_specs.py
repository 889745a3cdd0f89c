# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A flavor with extra specs, on guests that run with them."""

from __future__ import annotations

from support.faults import Subject
from support.fleet import Fleet
from support.guest import Guests
from support.lab import Host, Lab

# Without quota:vif_*: the kernel of a test machine may lack what libvirt limits interfaces with (sch_sfq, act_police).
SPECS = {
    "hw:cpu_sockets": "1",
    "hw:numa_nodes": "1",
    "quota:cpu_shares": "512",
    "quota:disk_write_bytes_sec": "50000000",
}


def limit(host: Host) -> str:
    """Of what the disk may be written with, in bytes a second, as it is in force."""
    return host.sh("virsh blkdeviotune web vda --current | awk '/^write_bytes_sec *:/ { print $NF; exit }'")


def test_extra_specs_come_and_go_with_the_flavor(lab: Lab, fleet: Fleet, guests: Guests) -> None:
    """On another host and in place; the guest sees its topology; with a flavor that says nothing of it nothing is left."""
    guest = guests.create("web", "kvm1")
    subject, before = Subject(lab, guest, guest.write()), guest.xml
    sizes = fleet.flavors["medium"]
    fleet.vars["kvmfleet_flavors"] = {
        **fleet.flavors,
        "tuned": {**sizes, "extra_specs": SPECS},
        "strange": {**sizes, "extra_specs": {"hw:cpu_realtime": "yes"}},
    }
    error = fleet.resize("web", "strange").refused()
    assert "kvmfleet_flavors.strange.extra_specs: this release does not apply hw:cpu_realtime (unknown here). It applies hw:cpu_policy," in error

    assert "root_disk: the guest has no disk vdz that it writes to alone; it has vda." in fleet.resize("web", "tuned", root_disk="vdz").refused()

    fleet.resize("web", "tuned", target_host="kvm2", root_disk="vda").ok()
    assert subject.runs_once_with_its_data() == "kvm2"
    assert limit(lab["kvm2"]) == "50000000"
    assert guest.exec("cat", "/sys/devices/system/cpu/cpu1/topology/physical_package_id") == "0"
    assert "<cell id='0' cpus='0-1'" in guest.xml
    fleet.play("revert", instance="web").ok()
    assert (subject.runs_once_with_its_data(), guest.xml) == ("kvm1", before)

    fleet.play("resize", instance="web", flavor="tuned", target_host="kvm1").ok()
    assert limit(lab["kvm1"]) == "50000000"
    fleet.play("confirm", instance="web").ok()
    fleet.play("resize", instance="web", flavor="medium", target_host="kvm1").ok()
    assert limit(lab["kvm1"]) == "0"
    assert not [name for name in ("iotune", "bandwidth", "shares", "numa", "setting") if f"<{name}" in guest.xml or f":{name}" in guest.xml]
    fleet.play("confirm", instance="web").ok()
    assert subject.runs_once_with_its_data() == "kvm1"
