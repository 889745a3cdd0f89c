# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A CD-ROM whose image somebody has deleted, as virt-install --cloud-init leaves it, and one that is in two drives."""

from __future__ import annotations

import re

from support.definition import add_devices
from support.faults import Subject
from support.fleet import Fleet
from support.guest import Guests
from support.lab import IMAGES, Lab

GONE, TWICE = f"{IMAGES}/gone.iso", f"{IMAGES}/iso/twice.iso"


def drive(target: str, source: str) -> str:
    return f"<disk type='file' device='cdrom'><driver name='qemu' type='raw'/>{source}<target dev='{target}' bus='sata'/><readonly/></disk>"


def test_a_medium_that_is_gone(lab: Lab, fleet: Fleet, guests: Guests) -> None:
    """One that the guest starts without leaves an empty drive; of another one the message has the command, which is all that it takes."""
    guest, host = guests.create("web", "kvm1", start=False), lab["kvm1"]
    host.sh(f"mkdir {IMAGES}/iso && truncate -s 1M {GONE} && printf twice >{TWICE} && truncate -s 1M {TWICE}")
    add_devices(host, "web", drive("sda", f"<source file='{GONE}' startupPolicy='optional'/>"))
    add_devices(host, "web", drive("sdb", f"<source file='{GONE}'/>"))
    for target in ("sdc", "sdd"):
        add_devices(host, "web", drive(target, f"<source file='{TWICE}'/>"))
    host.virsh("start", "web")
    guest.wait()
    host.sh(f"rm {GONE}")
    subject = Subject(lab, guest, guest.write())

    error = fleet.play("migrate", instance="web").refused()
    assert f"Disk sdb: {GONE} does not exist. Take the medium out: " in error
    (command,) = re.findall(r"virsh change-media .* --config", error)
    host.sh(command)
    before = guest.disk_paths
    assert before == [guest.disk, GONE, TWICE, TWICE]

    told = fleet.play("migrate", instance="web").ok().said
    assert f"sda: emptied ({GONE} is gone, and startupPolicy='optional' lets the guest start without)" in told
    first, *rest = guest.disk_paths
    assert (subject.runs_once_with_its_data(), first, len(rest), len(set(rest))) == ("kvm2", guest.disk, 2, 2)
    assert {lab["kvm2"].sha256(path) for path in rest} == {host.sha256(TWICE)}
    fleet.play("revert", instance="web").ok()
    assert (subject.runs_once_with_its_data(), guest.disk_paths, lab["kvm2"].exists(f"{IMAGES}/iso")) == ("kvm1", before, False)
    fleet.play("migrate", instance="web").ok()
    fleet.play("confirm", instance="web").ok()
    assert (subject.runs_once_with_its_data(), guest.disk_paths[0], len(guest.disk_paths)) == ("kvm2", guest.disk, 3)
    guests.delete_all()
    for one in (host, lab["kvm2"]):
        one.sh(f"rm -r {IMAGES}/iso")
