# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Images of every kind arrive as they were; one that another process has open, or whose header was rewritten, does not leave."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest
from support.faults import QUICK, Subject, never_read, one_paragraph, when_it_has_stopped
from support.fleet import Fleet
from support.guest import Guest, Guests
from support.lab import IMAGES, Host, Lab

BASES = f"{IMAGES}/kinds"
RAW_BASE, COMPRESSED_BASE = f"{BASES}/plain.raw", f"{BASES}/compressed.qcow2"
LAYERED_BASE = f"{BASES}/high.qcow2"
_MAKE_BASES = f"""
mkdir {BASES} && cd {BASES} && qemu-img create -q -f raw plain.raw 64M && qemu-img create -q -f qcow2 full.qcow2 64M
qemu-io -f raw -c 'write -q -P 17 1M 5M' plain.raw && qemu-io -f qcow2 -c 'write -q -P 18 2M 7M' full.qcow2
qemu-img convert -q -c -f qcow2 -O qcow2 full.qcow2 compressed.qcow2 && rm full.qcow2
qemu-img create -q -f qcow2 -F raw -b plain.raw low.qcow2 && qemu-io -f qcow2 -c 'write -q -P 19 2M 8M' low.qcow2
qemu-img create -q -f qcow2 -F qcow2 -b low.qcow2 high.qcow2 && qemu-io -f qcow2 -c 'write -q -P 20 7M 5M' high.qcow2 && chmod 444 *
"""
KINDS = {
    "vdb": ("qcow2", "-o cluster_size=4k"),
    "vdc": ("raw", ""),
    "vdd": ("qcow2", f"-o cluster_size=2M -F raw -b {RAW_BASE}"),
    "vde": ("qcow2", f"-o extended_l2=on,cluster_size=128k -F qcow2 -b {COMPRESSED_BASE}"),
    "vdf": ("qcow2", "-o compat=0.10"),
    "vdg": ("qcow2", "-o compression_type=zstd"),
    "vdh": ("raw", ""),
    "vdi": ("qcow2", f"-F qcow2 -b {LAYERED_BASE}"),
}
PLANTED = "/root/kvmfleet-secret"


def image(target: str) -> str:
    return f"{IMAGES}/web-{target}.{KINDS[target][0]}"


def content(host: Host, target: str) -> str:
    """Digest of what the guest sees on the disk."""
    file_format = KINDS[target][0]
    return host.sh(f"qemu-img convert -f {file_format} -O raw {image(target)} /tmp/seen.raw && sha256sum </tmp/seen.raw; rm -f /tmp/seen.raw")


@pytest.fixture
def many_disks(lab: Lab, guests: Guests) -> Iterator[Guest]:
    """A guest that is off with a disk of each kind.

    vdg has an internal snapshot that libvirt does not know; in vdh, which is raw, the guest has written what probing takes for an overlay of a secret.
    """
    guest, host = guests.create("web", "kvm1", start=False), lab["kvm1"]
    host.sh(_MAKE_BASES)
    for number, (target, (file_format, options)) in enumerate(KINDS.items()):
        host.sh(f"qemu-img create -q -f {file_format} {options} {image(target)} 64M && chown libvirt-qemu: {image(target)}")
        host.sh(f"qemu-io -f {file_format} -c 'write -q -P {number + 1} 3M {number + 1}M' -c 'write -q -P 99 40M 64k' {image(target)}")
        host.virsh("attach-disk", "web", image(target), target, "--config", "--driver", "qemu", "--subdriver", file_format)
    host.sh(f"qemu-img snapshot -c before {image('vdg')} && qemu-io -f qcow2 -c 'write -q -P 77 3M 1M' {image('vdg')}")
    planted = f"qemu-img create -q -f qcow2 -u -F raw -b {PLANTED} /tmp/planted 64M && dd if=/tmp/planted of={image('vdh')} conv=notrunc && rm /tmp/planted"
    host.sh(f"({planted}) 2>&1")
    yield guest
    for host in lab.hosts.values():
        host.sh(f"rm -rf {BASES} {' '.join(map(image, KINDS))}")


@pytest.mark.invariant(6)
def test_every_kind_of_image_moves(lab: Lab, fleet: Fleet, many_disks: Guest) -> None:
    """Several disks at once: flat, raw with holes, on raw, compressed and layered bases, small and large clusters, old and new versions; there and back."""
    source, destination = lab["kvm1"], lab["kvm2"]
    seen = {target: content(source, target) for target in KINDS}
    allocated = {target: source.allocated_bytes(image(target)) for target in KINDS}
    assert len(set(seen.values())) == len(KINDS)

    with never_read([source, destination], PLANTED):
        moved = fleet.play("migrate", instance="web", migrate_target_host="kvm2").ok().migration
    assert moved["destination"] == "kvm2"
    sources = Counter(base["from"] for base in moved["bases"] if base["bytes_transferred"])
    assert sources["kvm1"] >= 4, moved["bases"]  # raw, compressed, and two layers on the raw one
    assert many_disks.hosts == ["kvm2"]
    assert {target: content(destination, target) for target in KINDS} == seen
    holes_kept = {target: destination.allocated_bytes(image(target)) <= size + 2**20 for target, size in allocated.items()}
    assert all(holes_kept.values()), holes_kept
    assert "before" in destination.run("qemu-img", "snapshot", "-l", image("vdg"))
    assert not destination.exists(BASES)
    destination.virsh("start", "web")
    assert many_disks.wait().exec("sh", "-c", "cat /sys/block/vd?/size | wc -l") == str(len(KINDS) + 1)
    destination.virsh("destroy", "web")

    fleet.play("revert", instance="web").ok()
    assert many_disks.hosts == ["kvm1"]
    assert {target: content(source, target) for target in KINDS} == seen
    assert destination.files() == []


def test_an_overlay_that_another_process_has_open(lab: Lab, fleet: Fleet, guests: Guests) -> None:
    """Whoever may write to it holds QEMU's lock: a guest that is off is left as it was."""
    guest, host = guests.create("web", "kvm1", start=False), lab["kvm1"]
    before = lab.snapshot()
    host.sh(_hold(guest.disk))
    try:
        one_paragraph(fleet.play("migrate", instance="web"), guest.disk, "open in another process")
    finally:
        host.sh(_let_go(guest.disk), check=False)
    assert lab.snapshot() == before


def test_an_overlay_that_changes_hands_when_its_guest_stops(lab: Lab, fleet: Fleet, guests: Guests) -> None:
    """What was fine when the move was planned: an overlay of another file now, or locked by another process. It is found out before anything is read.

    Its guest cannot run, or must not, so that it stays off, whole and on its host, and recover starts it as soon as the overlay is right again.
    """
    guest, host = guests.create("web", "kvm1"), lab["kvm1"]
    subject = Subject(lab, guest, guest.write())
    rebase = f"qemu-img rebase -u -f qcow2 {guest.disk}"
    incompatible = f"dd of={guest.disk} bs=1 seek=79 conv=notrunc 2>&1"
    with never_read([host], PLANTED):
        with when_it_has_stopped(host, f"{rebase} -F raw -b {PLANTED}"):
            one_paragraph(fleet.play("migrate", instance="web", **QUICK), guest.disk, PLANTED, "stays off", "kvmfleet.compute.recover")
        host.sh(f"{rebase} -F qcow2 -b {IMAGES}/base/kvmfleet-guest.qcow2")
        for cause, spoil, mend in (
            ("open in another process", _hold(guest.disk), _let_go(guest.disk)),
            ("keeps its data in a second file", f"printf '\\4' | {incompatible}", f"printf '\\0' | {incompatible}"),
        ):
            host.sh(spoil)
            one_paragraph(fleet.play("recover", instance="web", **QUICK), guest.disk, cause, "stays off")
            assert (guest.hosts, guest.state, guest.disk_paths) == (["kvm1"], "shut off", [guest.disk])
            host.sh(mend)
    fleet.play("recover", instance="web", **QUICK).ok()
    subject.as_before()


def _hold(path: str) -> str:
    """Shell code that holds the image open, for writing, until `_let_go`."""
    return f"setsid sh -c 'sleep 300 | exec qemu-io -f qcow2 {path}' >/dev/null 2>&1 </dev/null & sleep 1"


def _let_go(path: str) -> str:
    return f'kill $(ps -eo pid=,args= | awk \'$2 == "qemu-io" && $NF == "{path}" {{ print $1 }}\')'
