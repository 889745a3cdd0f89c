# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Internal and external snapshots of one guest, all of which it can still be taken back to after a move."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterator

import pytest
from support.definition import add_devices
from support.faults import Subject, write_files
from support.fleet import Fleet
from support.guest import DATA, Guest, Guests
from support.lab import IMAGES, Lab
from support.snapshots import go_back_to, snapshots

RAW, FLAT = f"{IMAGES}/web-raw.img", f"{IMAGES}/web-flat.qcow2"
DISKS = f"""
<disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='{RAW}'/><target dev='vdb' bus='virtio'/></disk>
<disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='{FLAT}'/><target dev='vdc' bus='virtio'/></disk>
"""
_WRITE = f"""
for file in {DATA} /dev/vdb /dev/vdc; do dd if=/dev/urandom of=$file bs=1M count=1 conv=notrunc 2>/dev/null; done
sync
"""
_READ = f"""
for file in {DATA} /dev/vdb /dev/vdc; do head -c 1048576 $file | sha256sum; done
"""

pytestmark = pytest.mark.slow


def write(guest: Guest) -> str:
    """Write something else on each disk; what `read` returns from now on."""
    guest.exec("sh", "-c", _WRITE)
    return read(guest)


def read(guest: Guest) -> str:
    """Digests of what is on each disk."""
    return guest.wait().exec("sh", "-c", _READ)


def go_back_to_external(guest: Guest, name: str) -> None:
    """By hand, as before libvirt 9.9: a new overlay for each disk, over the image that the snapshot names."""
    host = guest.host
    snapshot = ET.fromstring(host.virsh("snapshot-dumpxml", "web", name))  # noqa: S314 - of the lab's own libvirt
    host.virsh("destroy", "web")
    for disk in snapshot.iterfind("domain/devices/disk[@device='disk']"):
        target, image, image_format = disk.find("target").get("dev"), disk.find("source").get("file"), disk.find("driver").get("type")
        overlay = snapshot.find(f"disks/disk[@name='{target}']/source").get("file")
        host.sh(f"rm {overlay} && qemu-img create -q -f qcow2 -b {image} -F {image_format} {overlay}")
    host.virsh("start", "web")


@pytest.fixture(autouse=True)
def no_images_left(lab: Lab, guests: Guests) -> Iterator[None]:
    """What was a layer below a snapshot is a base image, which no confirm removes."""
    yield
    guests.delete_all()
    for host in lab.hosts.values():
        host.sh(f"rm -f {IMAGES}/web*")


def test_three_disks_with_one_external_and_two_internal_snapshots(lab: Lab, fleet: Fleet, guests: Guests) -> None:
    """libvirt takes internal ones only where every disk is qcow2, so that the external one, which gives the raw disk a layer, comes first."""
    guest = guests.create("web", "kvm1", start=False)
    lab["kvm1"].sh(f"qemu-img create -q -f raw {RAW} 64M && qemu-img create -q -f qcow2 {FLAT} 64M")
    add_devices(lab["kvm1"], "web", DISKS)
    lab["kvm1"].virsh("start", "web")
    outside = write(guest)
    layers = [f"--diskspec={target},file={IMAGES}/web-{target}.after.qcow2" for target in ("vda", "vdb", "vdc")]
    lab["kvm1"].virsh("snapshot-create-as", "web", "outside", "--disk-only", "--quiesce", *layers)
    inside = {}
    for name in ("first", "second"):
        inside[name] = write(guest)
        lab["kvm1"].virsh("snapshot-create-as", "web", name)
    now, tree = write(guest), snapshots(lab["kvm1"])
    assert {"outside", "first", "second"} == {name for name, _parent in tree}
    subject = Subject(lab, guest, guest.look().data)

    fleet.play("migrate", instance="web", target_host="kvm2").ok()
    assert (subject.runs_once_with_its_data(), read(guest), snapshots(lab["kvm2"])) == ("kvm2", now, tree)
    fleet.play("revert", instance="web").ok()
    assert (subject.runs_once_with_its_data(), read(guest), snapshots(lab["kvm1"])) == ("kvm1", now, tree)

    fleet.resize("web", "medium", target_host="kvm2").ok()
    fleet.play("confirm", instance="web").ok()
    assert (subject.runs_once_with_its_data(), read(guest), snapshots(lab["kvm2"])) == ("kvm2", now, tree)
    for name in ("second", "first"):
        go_back_to(guest, name)
        assert read(guest) == inside[name]
    go_back_to_external(guest, "outside")
    assert read(guest) == outside


def test_an_internal_snapshot_below_an_external_one(lab: Lab, fleet: Fleet, guests: Guests) -> None:
    """It lies in what is a base image after the move, which no guest may write to: the guest goes back to it in a copy of that image."""
    guest = guests.create("web", "kvm1")
    subject = Subject(lab, guest, guest.write())
    lab["kvm1"].virsh("snapshot-create-as", "web", "inside")
    guest.write()
    lab["kvm1"].virsh("snapshot-create-as", "web", "outside", "--disk-only", "--quiesce", "--diskspec", f"vda,file={IMAGES}/web.after.qcow2")
    fleet.play("migrate", instance="web", target_host="kvm2").ok()
    fleet.play("confirm", instance="web").ok()

    host = guest.host
    snapshot = host.virsh("snapshot-dumpxml", "web", "inside", "--security-info")
    image = ET.fromstring(snapshot).find("domain/devices/disk/source").get("file")  # noqa: S314 - of the lab's own libvirt
    assert image.startswith(f"{IMAGES}/_base/")
    digest, copy = host.sha256(image), f"{IMAGES}/web.inside.qcow2"
    host.sh(f"cp --sparse=always {image} {copy} && chmod 600 {copy}")
    write_files(host, {"/tmp/inside.xml": snapshot.replace(image, copy)})
    host.virsh("snapshot-create", "web", "/tmp/inside.xml", "--redefine")
    go_back_to(guest, "inside")
    assert subject.runs_once_with_its_data() == "kvm2"
    assert host.sha256(image) == digest
