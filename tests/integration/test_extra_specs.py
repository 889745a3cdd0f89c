# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A flavor with extra specs, on guests that run with them."""

from __future__ import annotations

import re

import pytest
from support.faults import Subject
from support.fleet import Fleet
from support.guest import Guest, Guests
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


@pytest.mark.slow
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


def pins(guest: Guest, element: str = "vcpupin") -> list[str]:
    """The CPUs that the definition binds the vCPUs to."""
    return re.findall(rf"<{element} [^>]*cpuset='([^']*)'", guest.xml)


@pytest.mark.slow
def test_cpus_of_its_own(lab: Lab, fleet: Fleet, guests: Guests) -> None:
    """They are chosen from those set aside that no other guest has, there and in place; both hosts keep them until confirm or revert."""
    web = guests.create("web", "kvm1")
    guests.create("db", "kvm2", start=False)
    subject, before = Subject(lab, web, web.write()), web.xml
    fleet.vars["kvmfleet_flavors"] = {
        name: {**fleet.flavors["medium"], "vcpus": vcpus, "extra_specs": {"hw:cpu_policy": "dedicated"}} for name, vcpus in (("one", 1), ("two", 2))
    }
    assert "kvm2: NUMATopologyFilter" in fleet.resize("web", "one").refused()

    fleet.hosts["kvm2"]["kvmfleet_cpu_dedicated_set"] = "0-1"
    fleet.hosts["kvm1"]["kvmfleet_cpu_dedicated_set"] = "1"
    fleet.resize("web", "two", target_host="kvm2").ok()
    assert subject.runs_once_with_its_data() == "kvm2"
    assert (pins(web), pins(web, "emulatorpin")) == (["0", "1"], ["0-1"])
    assert [line.split()[-1] for line in lab["kvm2"].virsh("vcpupin", "web", "--live").splitlines()[-2:]] == ["0", "1"]
    assert "kvm2: NUMATopologyFilter" in fleet.play("resize", instance="db", flavor="one", target_host="kvm2").refused()
    fleet.play("revert", instance="web").ok()
    assert (subject.runs_once_with_its_data(), web.xml) == ("kvm1", before)


@pytest.mark.slow
def test_every_move_chooses_cpus_of_its_own_anew(lab: Lab, fleet: Fleet, guests: Guests) -> None:
    """Those that no other guest has, in place and there; a cold migration gives it those of its new host."""
    web, db = guests.create("web", "kvm1"), guests.create("db", "kvm2")
    subject = Subject(lab, web, web.write())
    fleet.vars["kvmfleet_flavors"] = {"one": {**fleet.flavors["medium"], "vcpus": 1, "extra_specs": {"hw:cpu_policy": "dedicated"}}}
    fleet.hosts["kvm2"]["kvmfleet_cpu_dedicated_set"] = "0-1"
    fleet.hosts["kvm1"]["kvmfleet_cpu_dedicated_set"] = "1"
    fleet.play("resize", instance="db", flavor="one", target_host="kvm2").ok()
    fleet.play("confirm", instance="db").ok()
    fleet.resize("web", "one", target_host="kvm2").ok()
    fleet.play("confirm", instance="web").ok()
    assert (pins(db), pins(web)) == (["0"], ["1"])
    fleet.play("migrate", instance="web", target_host="kvm1").ok()
    assert (subject.runs_once_with_its_data(), pins(web)) == ("kvm1", ["1"])
    fleet.play("confirm", instance="web").ok()
