# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Images of every kind arrive as they were; one that another process has open does not leave."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.faults import Subject
from support.fleet import Fleet
from support.guest import Guest, Guests
from support.lab import IMAGES, Host, Lab

BASES = f"{IMAGES}/kinds"
RAW_BASE, COMPRESSED_BASE = f"{BASES}/plain.raw", f"{BASES}/compressed.qcow2"
_MAKE_BASES = f"""
mkdir {BASES} && cd {BASES} && qemu-img create -q -f raw plain.raw 64M && qemu-img create -q -f qcow2 full.qcow2 64M
qemu-io -f raw -c 'write -q -P 17 1M 5M' plain.raw && qemu-io -f qcow2 -c 'write -q -P 18 2M 7M' full.qcow2
qemu-img convert -q -c -f qcow2 -O qcow2 full.qcow2 compressed.qcow2 && rm full.qcow2 && chmod 444 *
"""
KINDS = {
    "vdb": ("qcow2", "-o cluster_size=4k"),
    "vdc": ("raw", ""),
    "vdd": ("qcow2", f"-o cluster_size=2M -F raw -b {RAW_BASE}"),
    "vde": ("qcow2", f"-o extended_l2=on,cluster_size=128k -F qcow2 -b {COMPRESSED_BASE}"),
    "vdf": ("qcow2", "-o compat=0.10"),
    "vdg": ("qcow2", "-o compression_type=zstd"),
}


def image(target: str) -> str:
    return f"{IMAGES}/web-{target}.{KINDS[target][0]}"


def content(host: Host, target: str) -> str:
    """Digest of what the guest sees on the disk."""
    file_format = KINDS[target][0]
    return host.sh(f"qemu-img convert -f {file_format} -O raw {image(target)} /tmp/seen.raw && sha256sum </tmp/seen.raw; rm -f /tmp/seen.raw")


@pytest.fixture
def many_disks(lab: Lab, guests: Guests) -> Iterator[Guest]:
    """A guest that is off with a disk of each kind; the last one has an internal snapshot that libvirt does not know."""
    guest, host = guests.create("web", "kvm1", start=False), lab["kvm1"]
    host.sh(_MAKE_BASES)
    for number, (target, (file_format, options)) in enumerate(KINDS.items()):
        host.sh(f"qemu-img create -q -f {file_format} {options} {image(target)} 64M && chown libvirt-qemu: {image(target)}")
        host.sh(f"qemu-io -f {file_format} -c 'write -q -P {number + 1} 3M {number + 1}M' -c 'write -q -P 99 40M 64k' {image(target)}")
        host.virsh("attach-disk", "web", image(target), target, "--config", "--driver", "qemu", "--subdriver", file_format)
    host.sh(f"qemu-img snapshot -c before {image('vdg')} && qemu-io -f qcow2 -c 'write -q -P 77 3M 1M' {image('vdg')}")
    yield guest
    for host in lab.hosts.values():
        host.sh(f"rm -rf {BASES} {' '.join(map(image, KINDS))}")


def test_every_kind_of_image_moves(lab: Lab, fleet: Fleet, many_disks: Guest) -> None:
    """Several disks at once: flat, raw with holes, on raw and on compressed bases, small and large clusters, old and new versions; there and back."""
    source, destination = lab["kvm1"], lab["kvm2"]
    seen = {target: content(source, target) for target in KINDS}
    allocated = {target: source.allocated_bytes(image(target)) for target in KINDS}
    assert len(set(seen.values())) == len(KINDS)

    assert fleet.play("migrate", instance="web", migrate_target_host="kvm2").ok().migration["destination"] == "kvm2"
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
    """A backup that reads it holds QEMU's lock: the guest is left as it was, and goes on."""
    guest = guests.create("web", "kvm1")
    subject = Subject(lab, guest, guest.write())
    host = lab["kvm1"]
    host.sh("virsh --quiet shutdown web --mode agent; until [ \"$(virsh domstate web)\" = 'shut off' ]; do sleep 0.2; done")
    host.sh(f"setsid sh -c 'sleep 120 | qemu-io -f qcow2 {guest.disk}' >/dev/null 2>&1 </dev/null & sleep 1")
    try:
        error = fleet.play("migrate", instance="web").refused()
        assert guest.hosts == ["kvm1"]
    finally:
        host.sh(f"pkill -f 'qemu-io -f qcow2 {guest.disk}'", check=False)
    assert guest.disk in error
    assert "open in another process" in error
    host.virsh("start", "web")
    assert subject.runs_once_with_its_data() == "kvm1"
