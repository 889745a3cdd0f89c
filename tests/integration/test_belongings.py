# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What belongs to a guest beside its disks and its definition: snapshots, the state of its TPM, the files that it boots from."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from support import tpm
from support.console import LOG, said, say
from support.definition import add_devices, replace
from support.faults import QUICK, SWITCH, Subject, play_to_death
from support.fleet import Fleet
from support.guest import Guest, Guests
from support.lab import IMAGES, Lab
from support.snapshots import go_back_to, snapshots


@pytest.fixture
def with_snapshots(lab: Lab, guests: Guests) -> tuple[Subject, dict[str, str]]:
    """A guest with two internal snapshots, taken while it ran; its data is another one in each, and now."""
    guest = guests.create("web", "kvm1")
    data = {}
    for name in ("first", "second"):
        data[name] = guest.write()
        guest.host.virsh("snapshot-create-as", "web", name)
    return Subject(lab, guest, guest.write()), data


@pytest.fixture
def with_tpm(lab: Lab, guests: Guests) -> tuple[Subject, tpm.Sealed]:
    """A guest with a TPM, which has sealed a secret."""
    guest = guests.create("web", "kvm1", start=False)
    add_devices(lab["kvm1"], "web", tpm.device())
    lab["kvm1"].virsh("start", "web")
    return Subject(lab, guest.wait(), guest.write()), tpm.Sealed(guest)


@pytest.mark.invariant(10)
def test_all_that_belongs_to_a_guest_travels(lab: Lab, fleet: Fleet, with_tpm: tuple[Subject, tpm.Sealed]) -> None:
    """What its TPM has sealed, a snapshot and the log of its console, with a run that died before, and a flavor with extra specs."""
    subject, sealed = with_tpm
    guest, old, source, destination = subject.guest, subject.data, lab["kvm1"], lab["kvm2"]
    source.virsh("snapshot-create-as", "web", "before")
    subject, tree = Subject(lab, guest, guest.write()), snapshots(source)
    destination.sh(f"rm -f {LOG}")
    say(guest, "one")
    fleet.vars["kvmfleet_flavors"] = {"tuned": {**fleet.flavors["medium"], "extra_specs": {"hw:cpu_sockets": "1", "quota:disk_write_bytes_sec": "50000000"}}}

    words = {"instance": "web", "flavor": "tuned", "target_host": "kvm2", "resize_allow_resize_to_same_host": False}
    assert play_to_death(fleet, SWITCH, "resize", **words, **QUICK)
    fleet.play("recover", instance="web", **QUICK).ok()
    assert (subject.runs_once_with_its_data(), sealed.opens(), sealed.keepers) == ("kvm1", True, ["kvm1"])
    assert (snapshots(source), destination.exists(LOG)) == (tree, False)

    fleet.play("resize", **words).ok()
    fleet.play("confirm", instance="web").ok()
    say(guest, "two")
    assert (subject.runs_once_with_its_data(), sealed.opens(), sealed.keepers) == ("kvm2", True, ["kvm2"])
    assert (snapshots(destination), said(destination)) == (tree, ["one", "two"])
    assert guest.exec("cat", "/sys/devices/system/cpu/cpu1/topology/physical_package_id") == "0"
    assert "<write_bytes_sec>50000000</write_bytes_sec>" in guest.xml
    go_back_to(guest, "before")
    assert guest.look().data == old


@pytest.mark.slow
def test_internal_snapshots_travel(lab: Lab, fleet: Fleet, with_snapshots: tuple[Subject, dict[str, str]]) -> None:
    """With a run that died before; after the confirm the guest can be taken back to each of them."""
    subject, data = with_snapshots
    before = snapshots(lab["kvm1"])
    assert [name for name, _parent in before] == ["first", "second"]
    assert play_to_death(fleet, SWITCH, "migrate", instance="web", target_host="kvm2", **QUICK)
    fleet.play("recover", instance="web", **QUICK).ok()
    assert (subject.runs_once_with_its_data(), snapshots(lab["kvm1"])) == ("kvm1", before)

    fleet.resize("web", "medium", target_host="kvm2").ok()
    fleet.play("confirm", instance="web").ok()
    assert (subject.runs_once_with_its_data(), snapshots(lab["kvm2"])) == ("kvm2", before)
    for name in ("first", "second"):
        go_back_to(subject.guest, name)
        assert subject.guest.look().data == data[name]


@pytest.mark.slow
def test_internal_snapshots_come_back(lab: Lab, fleet: Fleet, with_snapshots: tuple[Subject, dict[str, str]]) -> None:
    subject, _data = with_snapshots
    before = snapshots(lab["kvm1"])
    fleet.play("migrate", instance="web", target_host="kvm2").ok()
    assert (subject.runs_once_with_its_data(), snapshots(lab["kvm2"])) == ("kvm2", before)
    fleet.play("revert", instance="web").ok()
    assert (subject.runs_once_with_its_data(), snapshots(lab["kvm1"])) == ("kvm1", before)


@pytest.mark.slow
def test_in_place_a_snapshot_made_meanwhile_is_not_merged_away(lab: Lab, fleet: Fleet, with_snapshots: tuple[Subject, dict[str, str]]) -> None:
    subject, data = with_snapshots
    fleet.play("resize", instance="web", flavor="medium", target_host="kvm1").ok()
    lab["kvm1"].virsh("snapshot-create-as", "web", "meanwhile")
    assert "holds snapshots of the guest (meanwhile), made since the operation began" in fleet.play("confirm", instance="web").refused()
    assert subject.runs_once_with_its_data() == "kvm1"
    lab["kvm1"].virsh("snapshot-delete", "web", "meanwhile")
    fleet.play("confirm", instance="web").ok()
    assert [name for name, _parent in snapshots(lab["kvm1"])] == ["first", "second"]
    go_back_to(subject.guest, "second")
    assert subject.guest.look().data == data["second"]


def test_an_external_snapshot_travels(lab: Lab, fleet: Fleet, guests: Guests) -> None:
    """The image from before it is a layer like a base image; the definition that the snapshot holds names where it lies now."""
    guest, source = guests.create("web", "kvm1"), lab["kvm1"]
    old = guest.write()
    source.virsh("snapshot-create-as", "web", "before", "--disk-only", "--quiesce", "--diskspec", f"vda,file={IMAGES}/web.after.qcow2")
    subject = Subject(lab, guest, guest.write())
    fleet.play("migrate", instance="web", target_host="kvm2").ok()
    assert (subject.runs_once_with_its_data(), snapshots(lab["kvm2"])) == ("kvm2", [("before", "disk-snapshot")])
    text = lab["kvm2"].virsh("snapshot-dumpxml", "web", "before")
    overlay, image = re.findall(r"<source file='([^']+)'", text)[:2]
    assert overlay == f"{IMAGES}/web.after.qcow2"
    assert image.startswith(f"{IMAGES}/_base/")
    fleet.play("confirm", instance="web").ok()
    assert subject.runs_once_with_its_data() == "kvm2"

    # libvirt goes back to an external snapshot by itself since 9.9; before, by hand.
    lab["kvm2"].virsh("destroy", "web")
    lab["kvm2"].sh(f"rm {overlay} && qemu-img create -q -f qcow2 -b {image} -F qcow2 {overlay}")
    lab["kvm2"].virsh("start", "web")
    assert guest.look().data == old
    source.run("rm", "--force", f"{IMAGES}/web.qcow2")


def test_a_snapshot_that_needs_another_file_is_refused(lab: Lab, fleet: Fleet, guests: Guests) -> None:
    guest = guests.create("web", "kvm1")
    memory = f"{IMAGES}/web.memory"
    guest.host.virsh("snapshot-create-as", "web", "live", "--memspec", memory, "--diskspec", f"vda,file={IMAGES}/web.after.qcow2")
    try:
        error = fleet.play("migrate", instance="web").refused()
        assert f"Snapshot live keeps the memory of the guest in the file {memory}, which is not carried: delete it" in error
        assert guest.hosts == ["kvm1"]
    finally:
        guests.delete_all()
        guest.lab["kvm1"].sh(f"rm -f {memory} {IMAGES}/web.qcow2")


@pytest.mark.slow
def test_a_tpm_comes_back(fleet: Fleet, with_tpm: tuple[Subject, tpm.Sealed]) -> None:
    """With a revert, from another host and in place; the destination keeps nothing of it."""
    subject, sealed = with_tpm
    fleet.play("migrate", instance="web", target_host="kvm2").ok()
    assert (subject.runs_once_with_its_data(), sealed.opens(), sealed.keepers) == ("kvm2", True, ["kvm1", "kvm2"])
    fleet.play("revert", instance="web").ok()
    assert (subject.runs_once_with_its_data(), sealed.opens(), sealed.keepers) == ("kvm1", True, ["kvm1"])
    fleet.play("resize", instance="web", flavor="medium", target_host="kvm1").ok()
    fleet.play("revert", instance="web").ok()
    assert (subject.runs_once_with_its_data(), sealed.opens(), sealed.keepers) == ("kvm1", True, ["kvm1"])


BOOT = f"{IMAGES}/boot"
EXTRACT = f"""
mkdir {BOOT}
qemu-img convert -f qcow2 -O raw {IMAGES}/base/kvmfleet-guest.qcow2 {BOOT}/disk
for name in vmlinuz initrd; do MTOOLS_SKIP_CHECK=1 mcopy -i {BOOT}/disk@@1M ::$name {BOOT}/$name; done
rm {BOOT}/disk
"""


@pytest.fixture
def booted_directly(lab: Lab, guests: Guests) -> Iterator[Guest]:
    """A guest whose kernel QEMU loads."""
    guest, source = guests.create("web", "kvm1", start=False), lab["kvm1"]
    source.sh(EXTRACT)
    files = f"<kernel>{BOOT}/vmlinuz</kernel><initrd>{BOOT}/initrd</initrd><cmdline>console=ttyS0 no_timer_check directly</cmdline>"
    replace(source, "web", "<boot dev='hd'/>", files)
    source.virsh("start", "web")
    yield guest.wait()
    guests.delete_all()
    for host in lab.hosts.values():
        host.run("rm", "-rf", BOOT)


def test_the_files_that_a_guest_boots_from_travel(lab: Lab, fleet: Fleet, booted_directly: Guest) -> None:
    """Byte for byte; where another guest's file bears the name, under a name of its own. The source keeps them, since others may boot from them."""
    guest, source, destination = booted_directly, lab["kvm1"], lab["kvm2"]
    subject = Subject(lab, guest, guest.write())
    assert "directly" in guest.exec("cat", "/proc/cmdline")
    destination.sh(f"mkdir {BOOT} && echo other >{BOOT}/initrd")
    wanted = [source.sha256(f"{BOOT}/{name}") for name in ("vmlinuz", "initrd")]
    fleet.play("migrate", instance="web", target_host="kvm2").ok()
    assert subject.runs_once_with_its_data() == "kvm2"
    assert "directly" in guest.exec("cat", "/proc/cmdline")
    kernel, initrd = re.findall(r"<(?:kernel|initrd)>([^<]+)", guest.xml)
    assert (kernel, initrd == f"{BOOT}/initrd", initrd.startswith(f"{BOOT}/initrd")) == (f"{BOOT}/vmlinuz", False, True)
    assert [destination.sha256(kernel), destination.sha256(initrd)] == wanted
    fleet.play("confirm", instance="web").ok()
    assert [source.sha256(f"{BOOT}/{name}") for name in ("vmlinuz", "initrd")] == wanted
    assert destination.sh(f"cat {BOOT}/initrd") == "other"
