# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ephemeral and swap disks of flavors: added, grown with their data, made anew, gone again, and nothing left of them after a revert or a crash."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import pytest
from support.faults import QUICK, SWITCH, Subject, play_to_death
from support.fleet import Fleet
from support.guest import Guest, Guests
from support.lab import IMAGES, Lab

EPHEMERAL, SWAP, NEXT_SWAP = (f"{IMAGES}/web-{name}.qcow2" for name in ("ephemeral0", "swap", "swap-2"))
_DISKS = "awk '$4 ~ /^vd.$/ { print $4, $3 / 1024 }' /proc/partitions"
_LABEL = "dd if=/dev/{} bs=1 skip=1144 count=10 2>/dev/null"
_MOUNTED = "mkdir -p /mnt && mount -t ext4 /dev/vdb /mnt && {}; umount /mnt"


class Disks(NamedTuple):
    """What the guest says of its second and third disk, in MiB."""

    ephemeral: int | None
    swap: int | None


def disks(guest: Guest) -> Disks:
    found = dict(line.split() for line in guest.wait().exec("sh", "-c", _DISKS).splitlines())
    return Disks(*(int(found[name]) if name in found else None for name in ("vdb", "vdc")))


def fill(guest: Guest) -> str:
    """Write to the filesystem of the ephemeral disk; the checksum of what was written."""
    return guest.exec("sh", "-c", _MOUNTED.format("dd if=/dev/urandom of=/mnt/data bs=1M count=3 2>/dev/null; sha256sum </mnt/data")).split()[0]


def filled(guest: Guest) -> str:
    return guest.exec("sh", "-c", _MOUNTED.format("sha256sum </mnt/data")).split()[0]


@pytest.fixture
def subject(lab: Lab, fleet: Fleet, guests: Guests) -> Iterator[Subject]:
    """A guest without such disks, in a fleet with flavors that have them."""
    sizes = fleet.flavors["small"]
    fleet.vars["kvmfleet_flavors"] = {
        **fleet.flavors,
        "scratch": {**sizes, "ephemeral": 1, "swap": 64},
        "roomy": {**sizes, "ephemeral": 2, "swap": 128},
        "dry": {**sizes, "ephemeral": 2},
    }
    guest = guests.create("web", "kvm1")
    yield Subject(lab, guest, guest.write())
    guests.delete_all()
    for host in lab.hosts.values():
        host.sh(f"rm -f {EPHEMERAL} {SWAP} {NEXT_SWAP}")


def test_they_come_with_a_flavor_and_go_with_a_revert(lab: Lab, fleet: Fleet, subject: Subject) -> None:
    """Formatted, on another host; the definition is what it was afterwards."""
    guest, before = subject.guest, subject.guest.xml
    run = fleet.resize("web", "scratch", "--diff", target_host="kvm2").ok()
    assert f"vdb: created at {EPHEMERAL} (the flavor has 1 GiB of ephemeral)" in run.said
    assert (run.diffs[0]["before"]["ephemeral_gib"], run.diffs[0]["after"]["swap_mib"]) == (0, 64)
    assert disks(guest) == Disks(1024, 64)
    assert guest.exec("sh", "-c", _LABEL.format("vdb")) == "ephemeral0"
    assert guest.exec("sh", "-c", "swapon /dev/vdc && tail -n 1 /proc/swaps && swapoff /dev/vdc").split()[0] == "/dev/vdc"
    assert not lab["kvm1"].exists(EPHEMERAL)
    fleet.play("revert", instance="web").ok()
    assert (subject.runs_once_with_its_data(), guest.xml) == ("kvm1", before)
    subject.nothing_open()
    assert lab["kvm2"].files() == []


@pytest.mark.slow
def test_one_grows_with_its_data_and_the_other_is_made_anew(lab: Lab, fleet: Fleet, subject: Subject) -> None:
    """On another host, copied ahead, and a revert brings back what was; a smaller ephemeral disk is refused."""
    guest = subject.guest
    fleet.resize("web", "scratch", target_host="kvm2").ok()
    fleet.play("confirm", instance="web").ok()
    data, before = fill(guest), guest.xml
    guest.exec("sh", "-c", "printf old >/dev/vdc && sync")
    assert "nothing to do" in fleet.resize("web", "scratch").ok().said
    refused = fleet.resize("web", "small").refused()
    assert "flavor.ephemeral: 0 GiB is less than the 1073741824 bytes (1.00 GiB) that the ephemeral disk vdb of web has; a disk never shrinks." in refused

    run = fleet.resize("web", "roomy", target_host="kvm1", migrate_precopy="always").ok()
    assert run.migration["precopy"]["rounds"] > 0
    assert f"vdc: re-created at {NEXT_SWAP} (the flavor has 128 MiB of swap; what it is now, {SWAP}, stays until confirm)" in run.said
    assert (subject.runs_once_with_its_data(), disks(guest), filled(guest)) == ("kvm1", Disks(2048, 128), data)
    assert guest.exec("sh", "-c", "head -c 3 /dev/vdc | od -An -tx1").split() == ["00", "00", "00"]
    assert not lab["kvm1"].exists(SWAP)
    fleet.play("revert", instance="web").ok()
    assert (subject.runs_once_with_its_data(), guest.xml) == ("kvm2", before)
    assert (disks(guest), filled(guest)) == (Disks(1024, 64), data)
    assert guest.exec("head", "-c", "3", "/dev/vdc") == "old"
    assert lab["kvm1"].files() == []


@pytest.mark.slow
def test_in_place(lab: Lab, fleet: Fleet, subject: Subject) -> None:
    """A revert removes them; what a confirm has kept goes with the next flavor by the same rules."""
    guest, before, host = subject.guest, subject.guest.xml, lab["kvm1"]
    fleet.play("resize", instance="web", flavor="scratch", target_host="kvm1").ok()
    assert disks(guest) == Disks(1024, 64)
    fleet.play("revert", instance="web").ok()
    assert (subject.runs_once_with_its_data(), guest.xml, host.files()) == ("kvm1", before, [guest.disk])

    fleet.play("resize", instance="web", flavor="scratch", target_host="kvm1").ok()
    data = fill(guest)
    fleet.play("confirm", instance="web").ok()
    assert sorted(host.files()) == sorted([guest.disk, EPHEMERAL, SWAP])
    fleet.play("resize", instance="web", flavor="dry", target_host="kvm1").ok()
    assert (disks(guest), filled(guest), host.exists(SWAP)) == (Disks(2048, None), data, True)
    fleet.play("confirm", instance="web").ok()
    assert sorted(host.files()) == sorted([guest.disk, EPHEMERAL])
    assert (disks(guest), filled(guest)) == (Disks(2048, None), data)


@pytest.mark.parametrize(
    ("point", "in_place"),
    [
        pytest.param("Move | Stop, prove off and seal the guest", False, id="claimed"),
        pytest.param("In place | Stop, prove off, layer, define and start with the new flavor", True, id="claimed in place", marks=pytest.mark.slow),
        pytest.param(SWITCH, False, id="sealed", marks=pytest.mark.slow),
    ],
)
def test_a_run_that_dies_leaves_nothing(lab: Lab, fleet: Fleet, subject: Subject, point: str, in_place: bool) -> None:
    """The disks are there, and the guest has not got them: recover removes them."""
    before = subject.guest.xml
    assert play_to_death(fleet, point, "resize", instance="web", flavor="scratch", resize_allow_resize_to_same_host=in_place, **QUICK)
    assert [host.name for host in lab.hosts.values() if host.exists(SWAP)] == (["kvm1"] if in_place else ["kvm2"])
    fleet.play("recover", instance="web", **QUICK).ok()
    subject.as_before()
    assert subject.guest.xml == before


@pytest.mark.slow
def test_a_guest_from_elsewhere(lab: Lab, fleet: Fleet, subject: Subject) -> None:
    """Its disks are told once; what cannot be one, and a name that is taken at the destination, are refused while it runs."""
    guest, host, boot_id = subject.guest, lab["kvm1"], subject.boot_id
    host.sh(f"qemu-img create -q -f qcow2 {SWAP} 64M && virsh -q attach-disk web {SWAP} vdb --driver qemu --subdriver qcow2 --targetbus virtio --config --live")
    assert "swap_disk: vda is the root disk;" in fleet.resize("web", "scratch", swap_disk="vda").refused()
    lab["kvm2"].sh(f"touch {EPHEMERAL}")
    assert (
        f"{EPHEMERAL} exists here already, and a disk that the flavor has would be made there"
        in fleet.resize("web", "scratch", swap_disk="vdb", target_host="kvm2").refused()
    )
    lab["kvm2"].sh(f"rm {EPHEMERAL}")
    assert subject.boot_id == boot_id
    fleet.resize("web", "scratch", swap_disk="vdb", target_host="kvm2").ok()
    assert guest.disk_paths == [guest.disk, NEXT_SWAP, EPHEMERAL]
    fleet.play("confirm", instance="web").ok()
    assert host.files() == []
    assert "nothing to do" in fleet.resize("web", "scratch").ok().said
    assert subject.runs_once_with_its_data() == "kvm2"
