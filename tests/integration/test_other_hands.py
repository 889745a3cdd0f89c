# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Backup tools, linked clones and people with virsh use the disks of a guest while an operation is under way: nobody loses anything by that."""

from __future__ import annotations

import re
import shlex

import pytest
from support.faults import QUICK, Subject, environment, one_paragraph
from support.fleet import Fleet, Run
from support.guest import Guests
from support.lab import IMAGES, SCRIPT, Lab

SETTLE = {"instance": "web", **QUICK}
BACKUP = f"{IMAGES}/web.backup.qcow2"
NIGHTLY = f"virsh snapshot-create-as web nightly --disk-only --no-metadata --diskspec vda,file={BACKUP}"
COPY = "virsh blockcopy web vda {0} --transient-job --wait"


@pytest.fixture
def subject(lab: Lab, guests: Guests) -> Subject:
    guest = guests.create("web", "kvm1")
    return Subject(lab, guest, guest.write(8))


def play_with(fleet: Fleet, script: str, before: str, playbook: str, host: str = "kvm1", **extra: object) -> Run:
    """A playbook, with somebody's commands on a host right before one of its tasks."""
    command = shlex.join([str(SCRIPT), "exec", host, "--", "sh", "-c", script])
    with environment(KVMFLEET_MEDDLE_BEFORE=before, KVMFLEET_MEDDLE_WITH=command):
        return fleet.play(playbook, **extra)


def test_a_backup_begins_while_the_disks_are_copied_ahead(lab: Lab, fleet: Fleet, subject: Subject) -> None:
    """Its snapshot lies over our layer, so that the layer stays; what the message says puts it right, and the guest runs all the time."""
    host, boot_id = lab["kvm1"], subject.boot_id
    ahead = {"instance": "web", "target_host": "kvm2", "migrate_precopy": "always", **QUICK}
    error = one_paragraph(
        play_with(fleet, NIGHTLY, "Precopy | Copy it to the destination and merge it there", "migrate", **ahead), BACKUP, "could NOT be undone yet", "recover"
    )
    assert subject.guest.disk_paths[0] == BACKUP
    assert subject.boot_id == boot_id
    assert (subject.running_on, subject.guest.hosts) == (["kvm1"], ["kvm1"])
    assert f"{IMAGES}/web.qcow2.precopy-" in " ".join(host.files())
    assert BACKUP in one_paragraph(fleet.play("recover", **SETTLE), BACKUP)

    advice = re.search(r"\((virsh blockcommit [^()]+)\)", error)
    assert advice, error
    host.sh(f"{advice[1]} && rm {BACKUP}")
    fleet.play("recover", **SETTLE).ok()
    subject.is_untouched(boot_id)
    assert host.files() == subject.guest.disk_paths[:1] == [subject.guest.disk]
    host.virsh("destroy", "web")
    host.virsh("start", "web")
    subject.as_before()


@pytest.mark.invariant(2)
def test_a_template_with_linked_clones_stays(lab: Lab, fleet: Fleet, guests: Guests) -> None:
    """Whether its clones run or not, in a drain as in a move; once none is left, it moves."""
    template, host = guests.create("web", "kvm1", start=False), lab["kvm1"]
    host.sh(
        f"qemu-img create -q -f qcow2 -b {template.disk} -F qcow2 {IMAGES}/clone.qcow2; virsh dumpxml web | "
        f"sed -e s,{template.disk},{IMAGES}/clone.qcow2, -e 's,<name>web<,<name>clone<,' -e /uuid/d -e '/mac address/d' >/tmp/clone.xml; "
        "virsh define /tmp/clone.xml"
    )
    try:
        error = fleet.play("migrate", instance="web", **QUICK).refused()
        assert f"{template.disk} is used by guest clone (below disk vda)" in error
        assert (template.hosts, host.exists(template.disk)) == (["kvm1"], True)
    finally:
        host.virsh("undefine", "clone")
        host.run("rm", f"{IMAGES}/clone.qcow2")
    fleet.play("migrate", instance="web", target_host="kvm2", **QUICK).ok()
    assert template.hosts == ["kvm2"]
    fleet.play("confirm", **SETTLE).ok()
    assert host.files() == []


@pytest.mark.slow
def test_a_snapshot_lies_over_the_layer_that_a_confirm_would_merge(lab: Lab, fleet: Fleet, subject: Subject) -> None:
    host = lab["kvm1"]
    fleet.play("resize", instance="web", flavor="medium", target_host="kvm1", **QUICK).ok()
    layer = subject.guest.disk_paths[0]
    host.sh(NIGHTLY)
    for verb in ("confirm", "revert"):
        error = one_paragraph(fleet.play(verb, **SETTLE), layer, BACKUP, "Nothing was merged or removed")
        assert subject.guest.disk_paths[0] == BACKUP
        assert host.exists(layer)
    advice = re.search(r"\((virsh blockcommit [^()]+)\)", error)
    assert advice, error
    host.sh(f"{advice[1]} && rm {BACKUP}")
    boot_id = subject.boot_id
    fleet.play("confirm", **SETTLE).ok()
    assert host.files() == subject.guest.disk_paths[:1] == [subject.guest.disk]
    subject.is_untouched(boot_id)


@pytest.mark.slow
def test_somebody_copies_a_disk_whose_layer_a_confirm_would_merge(lab: Lab, fleet: Fleet, subject: Subject) -> None:
    """Right before it, and left ready to be pivoted by whoever takes it for his own."""
    host = lab["kvm1"]
    fleet.play("resize", instance="web", flavor="medium", target_host="kvm1", **QUICK).ok()
    layer = subject.guest.disk_paths[0]
    run = play_with(fleet, COPY.format(BACKUP), "Apply | Bring the resize in place to a complete state", "confirm", **SETTLE)
    one_paragraph(run, "block job of somebody else", f"copy to {BACKUP}", layer)
    assert subject.guest.disk_paths[0] == layer
    host.virsh("blockjob", "web", "vda", "--abort")
    host.run("rm", BACKUP)
    fleet.play("confirm", **SETTLE).ok()
    assert host.files() == subject.guest.disk_paths[:1] == [subject.guest.disk]
    assert subject.runs_once_with_its_data() == "kvm1"


@pytest.mark.slow
def test_somebody_copies_a_disk_of_a_guest_that_would_be_stopped(lab: Lab, fleet: Fleet, subject: Subject) -> None:
    boot_id = subject.boot_id
    run = play_with(fleet, COPY.format(BACKUP), "Move | Stop, prove off and seal the guest", "migrate", instance="web", target_host="kvm2", **QUICK)
    one_paragraph(run, f"copy to {BACKUP}", "as before", "kvm1")
    lab["kvm1"].virsh("blockjob", "web", "vda", "--abort")
    lab["kvm1"].run("rm", BACKUP)
    subject.is_untouched(boot_id)


@pytest.mark.slow
def test_a_disk_that_was_given_to_another_guest_is_not_reverted_away(lab: Lab, fleet: Fleet, subject: Subject, guests: Guests) -> None:
    """A data disk of the guest, attached to another one at the destination since; and the sealed copy at the source, on which somebody looks something up."""
    source, destination, data = lab["kvm1"], lab["kvm2"], f"{IMAGES}/web-data.qcow2"
    source.sh(f"qemu-img create -q -f qcow2 {data} 64M")
    attach = ("--targetbus", "virtio", "--driver", "qemu", "--subdriver", "qcow2", "--sourcetype", "file", "--persistent")
    source.virsh("attach-disk", "web", data, "vdb", *attach)
    fleet.play("migrate", instance="web", target_host="kvm2", **QUICK).ok()
    other = guests.create("db1", "kvm2")
    destination.virsh("detach-disk", "web", "vdb", "--persistent")
    destination.virsh("attach-disk", "db1", data, "vdb", *attach)
    one_paragraph(fleet.play("revert", **SETTLE), f"{data} is used by guest db1 (disk vdb)")
    assert subject.runs_once_with_its_data() == "kvm2"
    assert other.state == "running"
    destination.virsh("detach-disk", "db1", "vdb", "--persistent")

    other.shut_down()
    sealed = next(path for path in source.files() if path.startswith(f"{data}.sealed-"))
    looker = source.sh(f"qemu-io -r -f qcow2 {sealed} -c 'sleep 600000' >/dev/null 2>&1 & echo $!; sleep 1").split()[0]
    one_paragraph(fleet.play("confirm", **SETTLE), f"{sealed} is used by a process that has it open as an image")
    source.run("kill", looker)
    fleet.play("confirm", **SETTLE).ok()
    assert source.files() == []
    assert subject.runs_once_with_its_data() == "kvm2"
    destination.run("rm", data)
