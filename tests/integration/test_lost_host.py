# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host that is gone for good while one of its operations is open, and that comes back all the same; and what the journals tell of it."""

from __future__ import annotations

import pytest
from support.faults import QUICK, Subject, impatient, in_mid_copy, one_paragraph, slow_link
from support.fleet import Fleet, Run
from support.guest import Guests
from support.lab import STATE, Lab

RESIZE = {"instance": "web", "flavor": "medium", "target_host": "kvm2", "reason": "CHG-7", "awx_job_id": "41", "awx_user_name": "alice", **QUICK}
SETTLE = {"instance": "web", "awx_job_id": "42", "awx_user_name": "bob", **QUICK}
A_SECOND_IN_DAYS = 1 / 86400


@pytest.fixture
def subject(lab: Lab, guests: Guests, fleet: Fleet) -> Subject:
    """A guest on kvm1 that is to move to kvm2."""
    impatient(lab, fleet)
    guest = guests.create("web", "kvm1")
    return Subject(lab, guest, guest.write())


def statuses(lab: Lab) -> list[str]:
    """Of the latest record of both hosts."""
    return [lab[name].records()[-1]["status"] for name in ("kvm1", "kvm2")]


@pytest.mark.slow
def test_confirm_without_a_lost_source(lab: Lab, fleet: Fleet, subject: Subject) -> None:
    """Refused while it answers anybody. Its sealed copy cannot be started when it is back, and goes then; until then the journal remembers."""
    fleet.resize(**RESIZE).ok()
    boot_id = subject.boot_id
    kvm1 = fleet.hosts["kvm1"]
    fleet.hosts["kvm1"] = {**kvm1, "ansible_host": kvm1["ansible_host"].rpartition(".")[0] + ".250", "kvmfleet_migration_address": kvm1["ansible_host"]}
    one_paragraph(fleet.play("confirm", **SETTLE, lost_host="kvm1"), "kvm1 does not answer the controller, but it answers kvm2")
    fleet.hosts["kvm1"] = kvm1
    assert statuses(lab) == ["finished"] * 2

    lab.call("host", "kill", "kvm1")
    try:
        assert fleet.play("confirm", "--check", **SETTLE, lost_host="kvm1").ok().changed
        assert lab["kvm2"].records()[-1]["status"] == "finished"
        assert fleet.play("confirm", **SETTLE, lost_host="kvm1", reason="burnt").ok().migration["status"] == "confirmed"
        assert lab["kvm2"].records("claims") == []
    finally:
        lab.call("host", "start", "kvm1")
    assert lab["kvm1"].domains == []
    assert lab["kvm1"].files()

    assert fleet.play("recover", **QUICK).ok().changed
    assert (lab["kvm1"].files(), statuses(lab)) == ([], ["confirmed"] * 2)
    assert subject.boot_id == boot_id
    subject.as_before("kvm2")
    tells_who_did_what_and_why(lab, fleet)


def tells_who_did_what_and_why(lab: Lab, fleet: Fleet) -> None:
    """Also after the end; and it is forgotten when it is old enough and nobody may need it."""
    shown = fleet.play("history", instance="web").ok()
    operation = shown.stats["kvmfleet_history"][-1]
    assert "kvm1 was given up as lost" in shown.said
    assert (operation["status"], operation["requested_by"], operation["reason"]) == ("confirmed", {"user": "alice", "job": "41"}, "CHG-7")
    forced = operation["forced"]
    assert (forced["lost_host"], forced["by"], forced["reason"]) == ("kvm1", {"user": "bob", "job": "42"}, "burnt")
    told = [(step["host"], step["step"], step.get("by", {}).get("user"), step.get("reason")) for step in operation["steps"]]
    assert told.index(("kvm1", "begun", "alice", "CHG-7")) < told.index(("kvm2", "begun", "alice", "CHG-7")) < told.index(("kvm1", "sealed", None, None))
    assert told.index(("kvm2", "finished", "bob", "burnt")) < told.index(("kvm1", "confirming", None, None))

    lab["kvm2"].sh(f"touch -d 2001-01-01 {STATE}/locks/stale.lock")
    before = lab.snapshot()
    assert pruned_at(fleet.play("history", "--check", older_than=A_SECOND_IN_DAYS)) == ["kvm1", "kvm2"]
    assert lab.snapshot() == before
    assert pruned_at(fleet.play("history", older_than=30)) == ["kvm2"]
    assert not lab["kvm2"].exists(f"{STATE}/locks/stale.lock")
    pruned = fleet.play("history", older_than=A_SECOND_IN_DAYS)
    assert (pruned_at(pruned), pruned.stats["kvmfleet_history"]) == (["kvm1", "kvm2"], [])


def pruned_at(run: Run) -> list[str]:
    """Which of the two hosts of the operation have forgotten something."""
    return [name for name in ("kvm1", "kvm2") if run.ok().recap[name]["changed"]]


def test_revert_without_a_lost_destination(lab: Lab, fleet: Fleet, subject: Subject) -> None:
    """Its copy is stopped and removed when it is back, even if somebody has started it; the guest at the source does not notice."""
    fleet.resize(**RESIZE).ok()
    subject.guest.write()
    lab.call("host", "kill", "kvm2")
    try:
        assert fleet.play("revert", **SETTLE, lost_host="kvm2", reason="burnt").ok().migration["status"] == "reverted"
        assert lab["kvm1"].records("claims") == []
        boot_id = subject.boot_id
    finally:
        lab.call("host", "start", "kvm2")
    assert lab["kvm2"].virsh("list", "--name") == ""
    lab["kvm2"].virsh("start", "web")
    assert "recover (discard: the guest was taken back to kvm1" in fleet.play("status").ok().said

    assert fleet.play("recover", **QUICK).ok().changed
    assert (subject.boot_id, statuses(lab)) == (boot_id, ["reverted"] * 2)
    assert lab["kvm2"].leftovers() == []
    subject.as_before()
    operation = fleet.play("history", instance="web").ok().stats["kvmfleet_history"][-1]
    forced = operation["forced"]
    assert (operation["requested_by"]["user"], forced["lost_host"], forced["by"]["user"], forced["reason"]) == ("alice", "kvm2", "bob", "burnt")


@pytest.mark.slow
def test_an_interrupted_move_goes_back_without_its_destination(lab: Lab, fleet: Fleet, subject: Subject) -> None:
    """Nobody can tell whether the guest runs there, until somebody says that the host is gone."""
    subject = Subject(lab, subject.guest, subject.guest.write(24))
    with slow_link(lab["kvm2"]):
        playing = fleet.start("resize", **{**RESIZE, "resize_allow_resize_to_same_host": False})
        in_mid_copy(lab["kvm2"], playing)
        lab.call("host", "kill", "kvm2")
        try:
            one_paragraph(playing.wait(), "kvm2", "recover")
            one_paragraph(fleet.play("recover", **SETTLE), "kvm2", "lost_host")
            fleet.play("recover", **SETTLE, lost_host="kvm2").ok()
            assert subject.runs_once_with_its_data() == "kvm1"
        finally:
            lab.call("host", "start", "kvm2")
    fleet.play("recover", **QUICK).ok()
    subject.as_before()
    assert lab["kvm1"].records()[-1]["forced"]["released_at"]
