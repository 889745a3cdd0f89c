# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Checkpoints go where the guest goes, and an incremental backup from one is right there: real QEMU, bitmaps and backups."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

import libvirt
import pytest

from ansible_collections.kvmfleet.compute.plugins.module_utils._guest import defining as _defining, handed_definition as _handed_definition
from ansible_collections.kvmfleet.compute.plugins.module_utils._guest.belongings import checkpoints as _checkpoints, registry as _registry
from ansible_collections.kvmfleet.compute.plugins.module_utils._guest.belongings.belonging import Claim, Here
from ansible_collections.kvmfleet.compute.plugins.module_utils._guest.facts import domain_facts
from ansible_collections.kvmfleet.compute.plugins.module_utils._journal.records import Journal
from ansible_collections.kvmfleet.compute.plugins.module_utils._journal.state_dir import StateDir
from ansible_collections.kvmfleet.compute.plugins.module_utils._operation import sealing as _sealing
from ansible_collections.kvmfleet.compute.plugins.module_utils._rules.errors import KvmfleetError
from ansible_collections.kvmfleet.compute.plugins.module_utils._rules.values import require
from ansible_collections.kvmfleet.compute.plugins.module_utils._storage import incoming as _incoming, qemu_img as _qemu_img
from ansible_collections.kvmfleet.compute.plugins.module_utils._storage.disk_use import DiskUses
from ansible_collections.kvmfleet.compute.tests.unit.plugins.module_utils import booted

CUT = {"timeout": 0, "retry_interval": 1, "on_timeout": "destroy", "modes": ["acpi"]}
REDEFINE, VALIDATE = libvirt.VIR_DOMAIN_CHECKPOINT_CREATE_REDEFINE, libvirt.VIR_DOMAIN_CHECKPOINT_CREATE_REDEFINE_VALIDATE
KIND = _checkpoints.Checkpoints()
MIB = 1024**2


def qemu_img(*words: str) -> str:
    return subprocess.run(["qemu-img", *words], check=True, capture_output=True, text=True).stdout


def backup(domain: libvirt.virDomain, target: Path, since: str | None = None, checkpoint: str | None = None) -> None:
    """As a backup program makes one; what is dirty since a checkpoint, or all."""
    disk = f"<disk name='vda' type='file' backup='yes'><driver type='qcow2'/><target file='{target}'/></disk>"
    incremental = f"<incremental>{since}</incremental>" if since else ""
    new = checkpoint and f"<domaincheckpoint><name>{checkpoint}</name><description>of &amp; {checkpoint}</description></domaincheckpoint>"
    domain.backupBegin(f"<domainbackup mode='push'>{incremental}<disks>{disk}</disks></domainbackup>", new)
    booted.wait_for(lambda: domain.jobInfo()[0] == libvirt.VIR_DOMAIN_JOB_NONE)


@pytest.fixture
def web1(qemu: libvirt.virConnect, images: Path) -> libvirt.virDomain:
    """It runs on an overlay, a full backup of it was made with the checkpoint monday, and it has written since."""
    base = booted.write(images / "base.raw", counts=True)
    qemu_img("create", "-q", "-f", "qcow2", "-b", base, "-F", "raw", f"{images}/web1.qcow2", "16M")
    domain = qemu.defineXML(booted.definition("web1", {"vda": (f"{images}/web1.qcow2", "qcow2")}))
    booted.start(domain)
    backup(domain, images / "full.qcow2", checkpoint="monday")
    domain.checkpointCreateXML("<domaincheckpoint><name>tuesday</name></domaincheckpoint>")
    domain.destroy()
    booted.start(domain)
    return domain


@pytest.fixture
def record(web1: libvirt.virDomain, state: StateDir, images: Path) -> dict[str, Any]:
    return booted.record_of(Journal(state), web1, "source", images)


def validated(domain: libvirt.virDomain) -> list[tuple[str, str | None, str]]:
    """Name, parent and description of each checkpoint, which libvirt compares with the bitmaps of the guest that runs."""
    found = []
    for checkpoint in domain.listAllCheckpoints(libvirt.VIR_DOMAIN_CHECKPOINT_LIST_TOPOLOGICAL):
        domain.checkpointCreateXML(checkpoint.getXMLDesc(), REDEFINE | VALIDATE)
    for one in _checkpoints.known(domain):
        found.append((one["name"], one["parent"], one["description"]))
    return found


KNOWN = [("monday", None, "of & monday"), ("tuesday", "monday", None)]


def require_right_backup(domain: libvirt.virDomain, path: str, images: Path) -> None:
    """What was changed since monday, over the full backup of then, is the disk of now; and that is not all of it."""
    part = images / "inc.qcow2"
    domain.suspend()  # it writes nothing between the backup and its end
    backup(domain, part, since="monday")
    domain.destroy()
    qemu_img("rebase", "-u", "-f", "qcow2", "-b", str(images / "full.qcow2"), "-F", "qcow2", str(part))
    assert "identical" in qemu_img("compare", "-f", "qcow2", "-F", "qcow2", str(part), path)
    assert booted.boots(str(part), "qcow2") == booted.boots(path, "qcow2") > booted.boots(str(images / "full.qcow2"), "qcow2")
    assert _qemu_img.info(str(part), "qcow2").actual_size < 4 * MIB


def killed(name: str) -> None:
    """Its QEMU, as by a crash."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and f"guest={name},".encode() in _cmdline(entry):
            os.kill(int(entry.name), signal.SIGKILL)


def _cmdline(entry: Path) -> bytes:
    try:
        return (entry / "cmdline").read_bytes()
    except OSError:
        return b""


def codes(domain: libvirt.virDomain, state: StateDir, images: Path) -> list[str]:
    return [refusal["code"] for refusal in domain_facts(domain, state, image_directories=[str(images)])["refusals"]]


def test_a_guest_that_comes_back_has_them_and_the_next_incremental_backup_is_right(
    qemu: libvirt.virConnect, web1: libvirt.virDomain, record: dict[str, Any], state: StateDir, images: Path
) -> None:
    assert codes(web1, state, images) == []
    handed = _sealing.hand_over(qemu, Journal(state), record, CUT)
    require("checkpoints", handed["manifest"]["checkpoints"], KIND.form)
    assert [one["bitmaps"] for one in handed["manifest"]["checkpoints"]] == [{"vda": "monday"}, {"vda": "tuesday"}]
    assert qemu.listAllDomains() == []
    _sealing.restore(qemu, Journal(state), Journal(state).get(record["uuid"]), status="error")
    domain = qemu.lookupByName("web1")
    assert (validated(domain), domain.isActive()) == (KNOWN, True)
    require_right_backup(domain, record["disks"][0]["path"], images)


@pytest.mark.parametrize("grow_to", [None, 32 * MIB])
def test_a_guest_that_arrives_has_them_and_the_next_incremental_backup_is_right(
    qemu: libvirt.virConnect, web1: libvirt.virDomain, record: dict[str, Any], state: StateDir, images: Path, grow_to: int | None
) -> None:
    """With a disk that has grown; the copy is the bytes of the image, as in the channel."""
    sealed = _sealing.hand_over(qemu, Journal(state), record, CUT)
    there = images / "there"
    there.mkdir()
    disk = {**record["disks"][0], "path": f"{there}/web1.qcow2", "grow_to": grow_to}
    base = {"sha256": "b", "format": "raw", "path": f"{images}/base.raw", "virtual_size": MIB, "size_bytes": MIB}
    arriving = {**record, "role": "destination", "disks": [disk], "image_directories": [str(images)]}
    part = _incoming.part_path(arriving, disk["path"])
    shutil.copy(sealed["files"]["vda"], part)
    _qemu_img.rebase_unsafe(part, "qcow2", base["path"], "raw")
    if grow_to:
        _qemu_img.resize(part, "qcow2", grow_to)
    kept = _registry.arrived(arriving, sealed["manifest"], Here({}, lambda what, definitions, reasons: None))
    _registry.received(arriving, kept)
    os.rename(part, disk["path"])

    xml = record_xml(state, record).replace(f"{images}/web1.qcow2", disk["path"])
    _defining.try_out(qemu, xml, record["uuid"], lambda trial: _registry.tried(trial, kept))
    assert qemu.listAllDomains() == []
    domain = qemu.defineXML(xml)
    for _time in range(2):
        _registry.redefine(domain, kept)
    booted.start(domain)
    assert validated(domain) == KNOWN
    if grow_to:
        qemu_img("resize", "-q", "-f", "qcow2", str(images / "full.qcow2"), str(grow_to))
    require_right_backup(domain, disk["path"], images)


def record_xml(state: StateDir, record: dict[str, Any]) -> str:
    return str(Journal(state).get(record["uuid"])["private"]["domain_xml"])


def test_one_whose_bitmap_was_not_closed_is_refused_while_the_guest_is_off_and_while_it_runs(
    web1: libvirt.virDomain, record: dict[str, Any], state: StateDir, images: Path
) -> None:
    assert codes(web1, state, images) == []
    killed("web1")
    booted.wait_for(lambda: not web1.isActive())
    assert codes(web1, state, images) == ["checkpoint_broken"] * 2
    booted.start(web1)
    assert codes(web1, state, images) == ["checkpoint_broken"] * 2
    with pytest.raises(KvmfleetError, match="Checkpoint monday of web1 is broken: its bitmap of vda .*virsh checkpoint-delete web1 monday") as caught:
        KIND.archive(web1, record)
    assert caught.value.code == "checkpoint_broken"
    for checkpoint in web1.listAllCheckpoints():
        checkpoint.delete()
    assert codes(web1, state, images) == []


def test_a_copy_without_a_valid_bitmap_is_not_used(web1: libvirt.virDomain, record: dict[str, Any], state: StateDir, images: Path) -> None:
    kept = KIND.archive(web1, record)
    web1.destroy()
    path = record["disks"][0]["path"]
    part = _incoming.part_path(record, path)
    shutil.copy(path, part)
    KIND.received(record, kept)
    qemu_img("bitmap", "--remove", "-f", "qcow2", part, "monday")
    with pytest.raises(KvmfleetError, match="no valid bitmap monday"):
        KIND.received(record, kept)


def test_no_layer_comes_over_their_bitmaps(qemu: libvirt.virConnect, web1: libvirt.virDomain, record: dict[str, Any], state: StateDir, images: Path) -> None:
    facts = domain_facts(web1, state, image_directories=[str(images)])
    assert (facts["has_checkpoints"], facts["checkpoints"][0]) == (True, {"name": "monday", "disks": ["vda"]})
    assert facts["not_layered"] == ["it has checkpoints (2), whose bitmaps would stay below a layer"]
    assert [reason["code"] for reason in facts["not_in_place"]] == ["has_checkpoints"]
    claim = Claim(qemu, Journal(state), {}, None)
    assert [reason.code for reason in KIND.reasons(claim, {**record, "role": "in_place"})] == ["has_checkpoints"]
    assert list(KIND.reasons(claim, {**record, "role": "destination"})) == []
    uses = DiskUses(qemu, state)
    _sealing.require_free(uses, record, web1, layered=False)
    with pytest.raises(KvmfleetError, match="A checkpoint of web1 was made since") as caught:
        _sealing.require_free(uses, record, web1, layered=True)
    assert caught.value.code == "has_checkpoints"


def one(name: str, parent: str | None, *targets: str) -> dict[str, Any]:
    return {"name": name, "description": None, "created": 1, "parent": parent, "bitmaps": dict.fromkeys(targets, name)}


def test_of_a_disk_that_the_guest_leaves_behind_none_is_left() -> None:
    before = [one("a", None, "vda", "vdb"), one("b", "a", "vdb"), one("c", "b", "vda")]
    assert _checkpoints.without_disks(before, {"vdb"}) == [one("a", None, "vda"), one("c", "a", "vda")]
    assert _checkpoints.without_disks(before, set()) == before
    assert _checkpoints.without_disks(before, {"vda", "vdb"}) == []


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ([one("a", None, "vda"), one("b", "a", "vda")], None),
        ([one("a", None, "vdz")], "about the disk vdz, which is none of the plan"),
        ([one("a", None, "hda")], "about the disk hda"),
        ([one("a", "z", "vda")], "its parent z is none before it"),
        ([one("a", None, "vda"), one("a", None, "vda")], "its name is not its own"),
    ],
)
def test_what_a_source_says_of_them_is_judged(given: list[dict[str, Any]], said: str | None) -> None:
    known = {"kind": "disk", "format": "qcow2"}
    record = {"source_host": "kvm1", "instance_name": "web1", "disks": [{"target": "vda", **known}, {"target": "hda", **known, "kind": "media"}]}
    here = Here({}, lambda what, definitions, reasons: _handed_definition.require_part(record, what, definitions, reasons))
    if said is None:
        assert KIND.arrived(record, given, here) == given
        return
    with pytest.raises(KvmfleetError, match=said) as caught:
        KIND.arrived(record, given, here)
    assert caught.value.code == "definition_refused"
