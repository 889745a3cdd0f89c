# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Somebody does something to the guest, or to what the journal lies on, while an operation is under way."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable

import pytest
from support.faults import QUICK, SWITCH, Subject, environment, eventually, one_paragraph, play_to_death, write_files
from support.fleet import Fleet, Run
from support.guest import Guests
from support.lab import SCRIPT, STATE, Host, Lab

MOVE = {"instance": "web", "flavor": "medium", "resize_allow_resize_to_same_host": False, **QUICK}
SETTLE = {"instance": "web", **QUICK}
STOP = "Move | Stop, prove off and seal the guest"


@pytest.fixture
def subject(lab: Lab, guests: Guests) -> Subject:
    guest = guests.create("web", "kvm1")
    return Subject(lab, guest, guest.write())


def meddle(fleet: Fleet, *command: str, before: str = STOP) -> Run:
    """A resize to another host, with a command of script/lab right before a task."""
    with environment(KVMFLEET_MEDDLE_BEFORE=before, KVMFLEET_MEDDLE_WITH=shlex.join([str(SCRIPT), *command])):
        return fleet.play("resize", **MOVE)


def on_source(script: str) -> list[str]:
    return ["exec", "kvm1", "--", "sh", "-c", script]


def test_a_guest_that_somebody_changes(lab: Lab, fleet: Fleet, subject: Subject) -> None:
    """Changed, renamed or undefined after the plan was made: it stays where it is, as it is."""
    host = lab["kvm1"]
    one_paragraph(meddle(fleet, *on_source("virsh setmem web 200M --config")), "web", "was changed", "plan it again", "as before", "kvm1")
    assert "204800" in host.virsh("dumpxml", "--inactive", "web")
    subject.as_before()

    definition = subject.guest.xml
    one_paragraph(meddle(fleet, *on_source("virsh undefine web")), "web", "was undefined", "Define it again", "as before", "kvm1")
    assert subject.running_on == ["kvm1"]
    write_files(host, {"/tmp/web.xml": definition})
    host.virsh("define", "/tmp/web.xml")
    subject.as_before()

    # libvirt may give up on a QEMU that a busy machine takes long to kill; it is off soon after
    renamed = "virsh destroy web || true; for i in $(seq 30); do virsh domrename web www && exit; sleep 1; done; exit 1"
    one_paragraph(meddle(fleet, *on_source(renamed)), "web", "was changed", "as before", "kvm1")
    assert host.virsh("list", "--all", "--name").split() == ["www"]
    host.sh("virsh domrename www web && virsh start web")
    subject.as_before()


@pytest.mark.slow
def test_a_guest_that_goes_off_by_itself(lab: Lab, fleet: Fleet, subject: Subject) -> None:
    """From inside, or by virsh destroy, before the operation would stop it: it moves as what it is then, off."""
    moved = meddle(fleet, *on_source("virsh destroy web")).ok().migration
    assert (moved["was_running"], moved["stopped_by"]) == (False, "already_off")
    assert (subject.guest.hosts, subject.running_on) == (["kvm2"], [])
    fleet.play("revert", **SETTLE).ok()
    assert (subject.guest.hosts, subject.running_on) == (["kvm1"], [])
    lab["kvm1"].virsh("start", "web")
    subject.as_before()


def spoiled(host: Host, spoil: str, mend: str, run: Callable[[], Run], *said: str) -> None:
    """A run while something is wrong with the state directory of a host: it fails and says what."""
    host.sh(spoil)
    try:
        one_paragraph(run(), *said)
    finally:
        host.sh(mend)


@pytest.mark.slow
def test_a_state_directory_that_cannot_be_written(lab: Lab, fleet: Fleet, subject: Subject) -> None:
    """Read-only or full, at either end: the guest is not touched; what was begun waits for recover."""
    read_only = f"mount --bind {STATE} {STATE} && mount -o remount,ro,bind {STATE}"
    own = f"cp -a {STATE} /tmp/state && mount -t tmpfs -o size=8m,mode=700 none {STATE} && cp -a /tmp/state/. {STATE} && rm -r /tmp/state"
    boot_id = subject.boot_id
    for name, spoil, cause in (
        ("kvm1", read_only, "Read-only file system"),
        ("kvm2", read_only, "Read-only file system"),
        ("kvm2", f"{own} && {{ cat /dev/zero >{STATE}/fill 2>/dev/null || true; }}", "No space left"),
    ):
        lab[name].sh(f"mkdir -p {STATE}")
        fleet.vars["kvmfleet_reserved_host_memory_mb"] = 0
        spoiled(lab[name], spoil, f"umount {STATE}", lambda: fleet.play("resize", **MOVE, target_host="kvm2"), STATE, cause, name)
        fleet.play("recover", **SETTLE).ok()
        subject.is_untouched(boot_id)


def test_a_torn_record(lab: Lab, fleet: Fleet, subject: Subject) -> None:
    """A host whose journal cannot be read knows nothing for sure: nothing is done on it until somebody has put it right."""
    assert play_to_death(fleet, SWITCH, "resize", **MOVE)
    host = lab["kvm2"]
    path = f"{STATE}/migrations/{host.records()[-1]['uuid']}.json"
    host.sh(f"cp -p {path} /tmp/whole && truncate --size=-10 {path}")
    one_paragraph(fleet.play("recover", **SETTLE), path, "cannot be read")
    assert subject.running_on == []
    host.sh(f"mv /tmp/whole {path}")
    fleet.play("recover", **SETTLE).ok()
    subject.as_before()


@pytest.mark.slow
def test_a_clock_that_is_set_back(lab: Lab, fleet: Fleet, subject: Subject) -> None:
    """Records that a dead run wrote an hour ahead do not make it live on."""
    assert play_to_death(fleet, SWITCH, "resize", **MOVE)
    for name in ("kvm1", "kvm2"):
        for record in lab[name].records():
            if record["instance_name"] == "web":
                later = {key: record[key] + 3600 for key in ("created_at", "updated_at", "lease_until")}
                path = f"{STATE}/migrations/{record['uuid']}.json"
                write_files(lab[name], {path: json.dumps({**json.loads(lab[name].sh(f"cat {path}")), **later})})
    fleet.play("recover", **SETTLE).ok()
    subject.as_before()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["kvm1", "kvm2"])
def test_libvirtd_dies(lab: Lab, fleet: Fleet, subject: Subject, name: str) -> None:
    """At either end, when the guest is down: it waits until libvirt is back."""
    run = meddle(fleet, "host", "stop-service", name, "libvirtd", before=STOP if name == "kvm1" else SWITCH)
    lab.call("host", "start-service", name, "libvirtd")
    one_paragraph(run, name, "libvirt")
    eventually(lambda: fleet.play("recover", **SETTLE).rc == 0, "recover", 60)
    subject.as_before()
