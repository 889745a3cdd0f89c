# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whatever others do with the disks of a guest meanwhile, an operation takes nothing from under anybody: real libvirt, QEMU and images."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import libvirt
import pytest

from ansible_collections.kvmfleet.compute.plugins.module_utils._guest.facts import domain_facts
from ansible_collections.kvmfleet.compute.plugins.module_utils._journal.records import Journal
from ansible_collections.kvmfleet.compute.plugins.module_utils._journal.state_dir import StateDir
from ansible_collections.kvmfleet.compute.plugins.module_utils._libvirt import blocks as _blocks, definitions as _definitions
from ansible_collections.kvmfleet.compute.plugins.module_utils._operation import (
    in_place as _in_place,
    precopy as _precopy,
    sealing as _sealing,
    starting as _starting,
    withdrawing as _withdrawing,
)
from ansible_collections.kvmfleet.compute.plugins.module_utils._rules.errors import KvmfleetError
from ansible_collections.kvmfleet.compute.plugins.module_utils._storage import files as _files, merging as _merging, qemu_img as _qemu_img
from ansible_collections.kvmfleet.compute.plugins.module_utils._storage.disk_use import DiskUses
from ansible_collections.kvmfleet.compute.tests.unit.plugins.module_utils import booted

CUT = {"timeout": 0, "retry_interval": 1, "on_timeout": "destroy", "modes": ["acpi"]}
WATCH = {"settle": 0, "agent_timeout": 0}
ONCE = {"rate": 0, "downtime": 1.0, "max_rounds": 5, "quiesce": False}
UNRECORDED = libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_DISK_ONLY | libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_NO_METADATA
Guest = Callable[..., libvirt.virDomain]


class Died(BaseException):
    """Stands for SIGKILL."""


def die(*args: Any, **kwargs: Any) -> None:
    raise Died


class Host:
    """A host with one guest, web1, and an operation on it."""

    def __init__(self, qemu: libvirt.virConnect, state: StateDir, images: Path, guest: Guest) -> None:
        self.qemu, self.state, self.images, self.guest, self.journal = qemu, state, images, guest, Journal(state)
        self.disk = self.image("web1.qcow2")
        self.uuid = ""

    def image(self, name: str, on: str | None = None) -> str:
        backing = [] if on is None else ["-b", on, "-F", "qcow2"]
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", *backing, self.images / name, *([] if on else ["16M"])], check=True)
        return str(self.images / name)

    @property
    def web1(self) -> libvirt.virDomain:
        return self.qemu.lookupByName("web1")

    @property
    def record(self) -> dict[str, Any]:
        return self.journal.get(self.uuid)

    @property
    def files(self) -> list[str]:
        """With what is the same in all names shortened."""
        return sorted(name.replace(self.uuid or "-", "U") for name in os.listdir(self.images))

    def places(self) -> set[str]:
        """Where vda of web1 is, in the definition and as it runs."""
        texts = (_definitions.inactive_xml(self.web1), _definitions.live_xml(self.web1))
        return {text.split("<source file='")[1].split("'")[0].replace(f"{self.images}/", "").replace(self.uuid, "U") for text in texts}

    def begin(self, role: str, running: bool = False) -> dict[str, Any]:
        domain = self.guest("web1", {"vda": self.disk}, running=running)
        record = booted.record_of(self.journal, domain, role, self.images)
        self.uuid = record["uuid"]
        return record

    def resize_in_place(self, running: bool = False) -> str:
        """The layer that web1 is on after that."""
        record = self.begin("in_place", running)
        _in_place.resize(self.qemu, self.journal, record, shutdown=CUT, watch=WATCH)
        return _in_place.layer_path(record, record["disks"][0])

    def confirm_in_place(self) -> None:
        _in_place.confirm(self.qemu, self.journal, self.record, timeout=30)

    def restore_in_place(self, status: str) -> None:
        _in_place.restore(self.qemu, self.journal, self.record, status=status, shutdown=CUT)

    def copy_ahead(self) -> str:
        """The layer that the running web1 is on after that."""
        record = self.begin("source", running=True)
        record, done = _precopy.freeze(self.qemu, self.journal, record, self.web1, **ONCE)
        assert done["frozen"]
        return _precopy.layer_path(record, record["disks"][0], 1)

    def seal(self) -> dict[str, Any]:
        return _sealing.hand_over(self.qemu, self.journal, self.record, CUT)

    def restore(self) -> None:
        _sealing.restore(self.qemu, self.journal, self.record, status="error")

    def sealed(self) -> str:
        """A guest that was off, its copy sealed, the operation finished; where its disk is."""
        self.journal.update(self.begin("source"), destination_host="kvm2")
        self.seal()
        self.journal.update(self.record, status="finished", step="finished")
        return _sealing.sealed_path(self.record, self.record["disks"][0])

    def snapshot(self, name: str, flags: int = UNRECORDED) -> str:
        """What a backup tool does; the image that web1 is on after that."""
        overlay = str(self.images / f"web1.{name}.qcow2")
        disks = f"<disks><disk name='vda' snapshot='external'><source file='{overlay}'/></disk></disks>"
        self.web1.snapshotCreateXML(f"<domainsnapshot><name>{name}</name>{disks}</domainsnapshot>", flags)
        return overlay


@pytest.fixture
def host(qemu: libvirt.virConnect, state: StateDir, images: Path, guest: Guest) -> Host:
    return Host(qemu, state, images, guest)


def refused(code: str, action: Callable[[], Any], *said: str) -> KvmfleetError:
    with pytest.raises(KvmfleetError) as caught:
        action()
    assert caught.value.code == code, caught.value.message
    assert [word for word in said if word not in caught.value.message] == [], caught.value.message
    return caught.value


def commit(domain: libvirt.virDomain, base: str, top: str) -> None:
    """As `virsh blockcommit --active --pivot --wait`."""
    domain.blockCommit("vda", base, top, 0, libvirt.VIR_DOMAIN_BLOCK_COMMIT_ACTIVE)
    booted.wait_for(lambda: (job := domain.blockJobInfo("vda", 0)) and job["end"] and job["cur"] == job["end"])
    deadline = time.monotonic() + 30
    while True:
        try:
            return domain.blockJobAbort("vda", libvirt.VIR_DOMAIN_BLOCK_JOB_ABORT_PIVOT)
        except libvirt.libvirtError:
            assert time.monotonic() < deadline
            time.sleep(0.1)


def test_a_layer_that_a_killed_module_has_not_laid_yet_is_in_nobody_s_way(host: Host) -> None:
    """Its file is there, and empty."""
    layer = host.copy_ahead()
    host.journal.update(host.record, layers=2)
    Path(layer[:-1] + "2").touch()
    host.restore()
    assert (host.files, host.places(), bool(host.web1.isActive())) == (["web1.qcow2"], {"web1.qcow2"}, True)


def test_a_layer_under_the_snapshot_of_a_backup_is_kept_by_the_undo_of_a_pre_copy(host: Host) -> None:
    """Until what the backup has laid over it is merged, in the way that the message says."""
    layer = host.copy_ahead()
    above = host.snapshot("nightly")
    refused("layer_covered", host.restore, layer, above, f"virsh blockcommit web1 vda --active --pivot --wait --top {above} --base {layer}")
    assert host.files == ["web1.nightly.qcow2", "web1.qcow2", "web1.qcow2.precopy-U.1"]
    assert host.record["status"] == "pre-migrating"
    commit(host.web1, layer, above)
    os.unlink(above)
    host.restore()
    assert (host.files, host.places(), host.record["status"]) == (["web1.qcow2"], {"web1.qcow2"}, "error")
    assert host.web1.isActive()


@pytest.mark.parametrize("running", [True, False])
def test_a_layer_under_a_snapshot_is_not_confirmed_away_in_place(host: Host, running: bool) -> None:
    layer = host.resize_in_place(running)
    host.snapshot("nightly")
    refused("layer_covered", host.confirm_in_place, layer, "web1.nightly.qcow2")
    assert (host.record["status"], os.path.exists(layer)) == ("finished", True)
    refused("layer_covered", lambda: host.restore_in_place("reverted"), layer)
    assert (host.record["status"], bool(host.web1.isActive())) == ("finished", running)
    assert host.files == ["web1.nightly.qcow2", "web1.qcow2", "web1.qcow2.resize-U"]


def test_what_libvirt_knows_of_a_snapshot_keeps_the_layer_that_it_needs(host: Host) -> None:
    """Although the guest is on the layer again."""
    layer = host.resize_in_place()
    above = host.snapshot("nightly", libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_DISK_ONLY)
    subprocess.run(["qemu-img", "commit", "-q", "-d", "-b", layer, above], check=True)
    host.qemu.defineXML(_definitions.inactive_xml(host.web1).replace(above, layer))
    os.unlink(above)
    refused("layer_covered", host.confirm_in_place, "snapshot nightly of guest web1")
    refused("layer_covered", lambda: host.restore_in_place("reverted"), "snapshot nightly of guest web1")
    host.web1.snapshotLookupByName("nightly").delete(libvirt.VIR_DOMAIN_SNAPSHOT_DELETE_METADATA_ONLY)
    host.confirm_in_place()
    assert (host.files, host.places()) == (["web1.qcow2"], {"web1.qcow2"})


def detach(host: Host, layer: str) -> None:
    host.web1.detachDeviceFlags(
        f"<disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='{layer}'/><target dev='vda' bus='virtio'/></disk>",
        libvirt.VIR_DOMAIN_AFFECT_CONFIG,
    )


def test_a_disk_that_was_detached_is_not_taken_for_merged(host: Host) -> None:
    layer = host.resize_in_place()
    detach(host, layer)
    refused("layer_covered", host.confirm_in_place, "missing in the definition", f"virsh attach-disk web1 {layer} vda")
    assert host.files == ["web1.qcow2", "web1.qcow2.resize-U"]
    assert host.record["status"] == "finished"


def test_nobody_is_told_to_attach_a_layer_that_another_guest_has_got(host: Host) -> None:
    layer = host.resize_in_place()
    detach(host, layer)
    host.guest("db1", {"vdb": layer})
    error = refused("layer_covered", host.confirm_in_place, "guest db1 (disk vdb)")
    assert "attach-disk" not in str(error)


@pytest.mark.parametrize("end", ["confirm_in_place", "restore_in_place"])
def test_a_layer_that_was_attached_to_another_guest_stays(host: Host, end: str) -> None:
    layer = host.resize_in_place()
    host.guest("db1", {"vdb": layer})
    act = host.confirm_in_place if end == "confirm_in_place" else lambda: host.restore_in_place("reverted")
    refused("layer_covered" if end == "confirm_in_place" else "disk_in_use_by", act, "guest db1 (disk vdb)")
    assert (host.files, host.record["status"]) == (["web1.qcow2", "web1.qcow2.resize-U"], "finished")


def test_nothing_is_merged_into_a_disk_that_a_clone_stands_on(host: Host) -> None:
    """A disk under a layer does not change, so that it looks as if one could clone it."""
    host.resize_in_place()
    host.guest("clone", {"vda": host.image("clone.qcow2", on=host.disk)})
    refused("disk_in_use_by", host.confirm_in_place, "guest clone (below disk vda)")
    assert (host.places(), host.record["status"]) == ({"web1.qcow2.resize-U"}, "finished")


def test_a_block_job_of_somebody_else_is_neither_waited_for_nor_pivoted(host: Host) -> None:
    layer = host.resize_in_place(running=True)
    copy = f"<disk type='file'><source file='{host.images}/backup.qcow2'/><driver type='qcow2'/></disk>"
    host.web1.blockCopy("vda", copy, {}, libvirt.VIR_DOMAIN_BLOCK_COPY_TRANSIENT_JOB)
    booted.wait_for(lambda: (job := host.web1.blockJobInfo("vda", 0)) and job["end"] and job["cur"] == job["end"])
    error = refused("block_job_active", host.confirm_in_place, "copy to ", "backup.qcow2", "virsh blockjob web1 vda --abort")
    assert layer in error.message
    assert (host.places(), host.record["status"]) == ({"web1.qcow2.resize-U"}, "finished")
    host.web1.blockJobAbort("vda", 0)
    host.confirm_in_place()
    assert host.places() == {"web1.qcow2"}
    assert "web1.qcow2.resize-U" not in host.files


def test_a_merge_that_a_killed_module_has_left_is_brought_to_its_end(host: Host) -> None:
    layer = host.resize_in_place(running=True)
    _blocks.begin_commit(host.web1, "vda", base=host.disk, top=layer)
    host.confirm_in_place()
    assert (host.files, host.places(), host.record["status"]) == (["web1.qcow2"], {"web1.qcow2"}, "confirmed")


def test_a_layer_stays_unless_the_guest_is_seen_on_the_disk_below(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever QEMU and libvirt say of the job."""
    host.resize_in_place(running=True)
    monkeypatch.setattr(_merging, "_SETTLE", 0.2)
    monkeypatch.setattr(_blocks, "pivot", lambda domain, target: domain.blockJobAbort(target, 0) == 0)
    refused("commit_failed", host.confirm_in_place, "should be", "Nothing was removed")
    assert host.files == ["web1.qcow2", "web1.qcow2.resize-U"]
    monkeypatch.undo()
    host.confirm_in_place()
    assert (host.files, host.places()) == (["web1.qcow2"], {"web1.qcow2"})


def test_a_template_with_linked_clones_is_refused_before_anything_is_done(host: Host) -> None:
    """In the plan, and again where a clone was made since: the guest is not even stopped."""
    record = host.begin("source", running=True)

    def refusals() -> dict[str, str]:
        facts = domain_facts(host.web1, host.state, image_directories=[str(host.images)])
        return {refusal["code"]: refusal["reason"] for refusal in facts["refusals"]}

    assert "disk_in_use_by" not in refusals()
    host.guest("clone", {"vda": host.image("clone.qcow2", on=host.disk)})
    assert f"{host.disk} is used by guest clone (below disk vda)" in refusals()["disk_in_use_by"]
    refused("disk_in_use_by", lambda: _sealing.require_free(DiskUses(host.qemu, host.state), record, host.web1, layered=False), "guest clone (below disk vda)")
    refused("disk_in_use_by", host.seal, "guest clone (below disk vda)")
    assert host.web1.isActive()
    assert host.files == ["clone.qcow2", "web1.qcow2"]


@pytest.mark.parametrize("more", ["<readonly/>", "<shareable/>"])
def test_what_a_guest_only_reads_or_shares_by_its_definition_is_no_reason(host: Host, more: str) -> None:
    seed = host.image("seed.raw")
    for name in ("web1", "web2"):
        disk = f"<disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='{seed}'/><target dev='vdb' bus='virtio'/>{more}</disk>"
        host.guest(name, {"vda": host.image(f"{name}.qcow2")}).attachDeviceFlags(disk, libvirt.VIR_DOMAIN_AFFECT_CONFIG)
    facts = domain_facts(host.web1, host.state, image_directories=[str(host.images)])
    assert "disk_in_use_by" not in [refusal["code"] for refusal in facts["refusals"]]


def test_a_clone_that_is_made_while_the_guest_goes_down_keeps_its_template(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """Asked again right before anything is renamed."""
    host.begin("source")
    before = _definitions.inactive_xml(host.web1)
    stop = _sealing._power.stop

    def meanwhile(*operands: Any, **options: Any) -> Any:
        host.guest("clone", {"vda": host.image("clone.qcow2", on=host.disk)})
        return stop(*operands, **options)

    monkeypatch.setattr(_sealing._power, "stop", meanwhile)
    refused("disk_in_use_by", host.seal, "guest clone (below disk vda)")
    assert host.files == ["clone.qcow2", "web1.qcow2"]
    host.restore()
    assert (_definitions.inactive_xml(host.web1), host.record["status"]) == (before, "error")


def test_a_block_job_keeps_a_guest_from_being_stopped(host: Host) -> None:
    host.begin("source", running=True)
    copy = f"<disk type='file'><source file='{host.images}/backup.qcow2'/><driver type='qcow2'/></disk>"
    host.web1.blockCopy("vda", copy, {}, libvirt.VIR_DOMAIN_BLOCK_COPY_TRANSIENT_JOB)
    refused("block_job_active", host.seal, "copy to ", "on disk vda")
    assert (bool(host.web1.isActive()), host.record["status"]) == (True, "pre-migrating")
    host.web1.blockJobAbort("vda", 0)


CHECKPOINT = "<domaincheckpoint><name>monday</name><disks><disk name='vda' checkpoint='bitmap'/></disks></domaincheckpoint>"


def test_a_checkpoint_that_was_made_since_the_plan_goes_with_the_guest(host: Host) -> None:
    host.begin("source", running=True)
    host.web1.checkpointCreateXML(CHECKPOINT)
    assert [one["name"] for one in host.seal()["manifest"]["checkpoints"]] == ["monday"]
    host.restore()
    assert [one.getName() for one in host.web1.listAllCheckpoints()] == ["monday"]


@pytest.mark.parametrize("where", ["under a layer", "in place"])
def test_a_checkpoint_that_was_made_since_the_plan_keeps_a_guest_from_being_stopped_where_layers_are(host: Host, where: str) -> None:
    if where == "in place":
        record = host.begin("in_place", running=True)
    else:
        host.copy_ahead()
    host.web1.checkpointCreateXML(CHECKPOINT)
    act = (lambda: _in_place.resize(host.qemu, host.journal, record, shutdown=CUT, watch=WATCH)) if where == "in place" else host.seal
    refused("has_checkpoints", act, "checkpoint of web1")
    assert host.web1.isActive()
    host.web1.checkpointLookupByName("monday").delete()


def test_a_sealed_copy_that_somebody_needs_is_not_confirmed_away(host: Host) -> None:
    """Attached under the name that it has now, or needed under the one that it had."""
    sealed = host.sealed()
    db1 = host.guest("db1", {"vdb": sealed})

    def confirm() -> None:
        _sealing.discard(host.qemu, host.journal, host.record)

    refused("disk_in_use_by", confirm, "guest db1 (disk vdb)")
    db1.undefine()
    subprocess.run(["qemu-img", "create", "-q", "-u", "-f", "qcow2", "-b", host.disk, "-F", "qcow2", host.images / "clone.qcow2", "16M"], check=True)
    clone = host.guest("clone", {"vda": host.images / "clone.qcow2"})
    refused("disk_in_use_by", confirm, f"{host.disk} is used by guest clone (below disk vda)")
    assert (host.files, host.record["status"]) == (["clone.qcow2", "web1.qcow2.sealed-U"], "finished")
    clone.undefine()
    confirm()
    assert (host.files, host.record["status"]) == (["clone.qcow2"], "confirmed")


@pytest.mark.parametrize("role", ["source", "in_place"])
def test_a_guest_that_somebody_undefines_is_not_said_to_be_as_before(host: Host, role: str) -> None:
    host.begin(role)
    host.web1.undefine()
    refused("instance_vanished", lambda: host.restore() if role == "source" else host.restore_in_place("error"), "is not as before")
    assert (host.files, host.record["status"]) == (["web1.qcow2"], "error")


@pytest.mark.parametrize("died_in", ["make", "bring_up"])
def test_a_guest_that_somebody_undefines_while_it_is_resized_in_place_is_missed(host: Host, monkeypatch: pytest.MonkeyPatch, died_in: str) -> None:
    """The module died as it made the layers, or before the start; the definition of the switch brings the guest back where there is one."""
    host.begin("in_place")
    with monkeypatch.context() as patch:
        patch.setattr(*{"make": (_qemu_img, "create_overlay"), "bring_up": (_starting, "bring_up")}[died_in], die)
        with pytest.raises(Died):
            _in_place.resize(host.qemu, host.journal, host.record, shutdown=CUT, watch=WATCH)
    host.web1.undefine()
    refused("instance_vanished", lambda: _in_place.resize(host.qemu, host.journal, host.record, shutdown=CUT, watch=WATCH), "is not defined")
    host.restore_in_place("error")
    assert host.places() == {"web1.qcow2"}
    assert (host.files, host.record["status"]) == (["web1.qcow2"], "error")


def test_a_sealed_copy_that_somebody_uses_does_not_get_its_name_back(host: Host) -> None:
    sealed = host.sealed()
    db1 = host.guest("db1", {"vdb": sealed})
    host.journal.update(host.record, status="reverting", step="reverting")
    refused("disk_in_use_by", lambda: _sealing.restore(host.qemu, host.journal, host.record, status="reverted"), "guest db1 (disk vdb)")
    assert (host.files, host.record["status"]) == (["web1.qcow2.sealed-U"], "reverting")
    db1.undefine()
    _sealing.restore(host.qemu, host.journal, host.record, status="reverted")
    assert (host.files, host.record["status"]) == (["web1.qcow2"], "reverted")


def arrived(host: Host, status: str) -> None:
    """web1 has come to this host, with a disk and a medium that the operation has brought."""
    record = host.begin("destination")
    seed = host.image("seed.iso")
    media = {**record["disks"][0], "target": "sda", "kind": "media", "path": seed}
    inodes = {path: os.stat(path).st_ino for path in (host.disk, seed)}
    record = host.journal.update(record, status="migrating", inodes=inodes, disks=[*record["disks"], media])
    text = _definitions.inactive_xml(host.web1).replace(
        "</name>",
        f"</name><metadata><k:k xmlns:k='https://kvmfleet.github.io/compute/domain/1'><k:origin host='kvm1' migration='{host.uuid}'/></k:k></metadata>",
        1,
    )
    host.qemu.defineXML(text)
    if status != "migrating":
        host.journal.update(host.journal.update(record, status="post-migrating"), status=status, step=status)


def test_a_disk_that_went_to_another_guest_is_not_reverted_away(host: Host) -> None:
    """It is told before the guest is stopped, and again where it was attached since."""
    arrived(host, "finished")
    db1 = host.guest("db1", {"vdb": host.disk})

    def undefine() -> None:
        _withdrawing.undefine(host.qemu, host.journal, host.record, CUT)

    refused("disk_in_use_by", undefine, "guest db1 (disk vdb)")
    assert (host.record["status"], host.web1.isPersistent()) == ("finished", 1)
    db1.undefine()
    undefine()
    db1 = host.guest("db1", {"vdb": host.disk})
    undefine()  # again, after a crash: the guest must get back to its source all the same
    db1.undefine()
    db1 = host.guest("db1", {"vdb": host.disk})
    refused("disk_in_use_by", lambda: _withdrawing.withdraw(host.qemu, host.journal, host.record, status="reverted"), "guest db1 (disk vdb)")
    assert (host.record["status"], os.path.exists(host.disk)) == ("reverting", True)
    db1.undefine()
    _withdrawing.withdraw(host.qemu, host.journal, host.record, status="reverted")
    assert (host.record["status"], host.files) == ("reverted", [])


def test_a_medium_that_came_with_the_guest_and_that_another_one_uses_stays(host: Host) -> None:
    arrived(host, "finished")
    host.guest("web2", {"sda": host.images / "seed.iso"})
    _withdrawing.undefine(host.qemu, host.journal, host.record, CUT)
    _withdrawing.withdraw(host.qemu, host.journal, host.record, status="reverted")
    assert (host.record["status"], host.files) == ("reverted", ["seed.iso"])
    assert "but for what others use here: " in host.record["history"][-1]["note"]


def test_an_undo_leaves_what_others_use_so_that_the_guest_can_go_on_at_its_source(host: Host) -> None:
    """Until it has ended here, the guest is off: a file that somebody uses meanwhile is theirs then."""
    arrived(host, "migrating")
    host.guest("db1", {"vdb": host.disk})
    _withdrawing.undefine(host.qemu, host.journal, host.record, CUT)
    _withdrawing.withdraw(host.qemu, host.journal, host.record, status="error")
    assert (host.record["status"], host.files) == ("error", ["web1.qcow2"])


def killed(host: Host, monkeypatch: pytest.MonkeyPatch, at: str) -> None:
    """A resize in place whose module dies right before (`define`) or right after (`_require_off`) the definition names the layers."""
    with monkeypatch.context() as patched:
        patched.setattr(*((_in_place._defining, "define") if at == "define" else (_in_place._kinds, "sync")), die)
        with pytest.raises(Died):
            _in_place.resize(host.qemu, host.journal, host.begin("in_place"), shutdown=CUT, watch=WATCH)
    assert host.record["step"] == "defining"


def test_a_guest_that_was_started_as_before_runs_on_and_loses_no_layer_that_it_has(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed before the layers were defined: whoever starts the guest starts it on its disk."""
    killed(host, monkeypatch, "define")
    host.web1.create()
    host.restore_in_place("error")
    assert (host.files, host.places(), bool(host.web1.isActive())) == (["web1.qcow2"], {"web1.qcow2"}, True)


def test_no_layer_is_removed_under_a_guest_that_somebody_has_started_on_it(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed right after that, and the record does not say so yet."""
    killed(host, monkeypatch, "sync")
    host.web1.create()
    refused("guest_has_run", lambda: host.restore_in_place("error"), "web1")
    host.journal.update(host.record, withdrawing=True)
    refused("guest_has_run", lambda: host.restore_in_place("error"), "web1")
    # A record of the release that did not say so before it defined the layers.
    host.journal.update(host.record, step="layering")
    refused("guest_has_run", lambda: host.restore_in_place("error"), "Shut it down")
    assert (host.files, bool(host.web1.isActive())) == (["web1.qcow2", "web1.qcow2.resize-U"], True)
    host.web1.destroy()
    host.restore_in_place("error")
    assert (host.files, host.places()) == (["web1.qcow2"], {"web1.qcow2"})


def test_a_guest_that_somebody_starts_while_its_disks_are_layered_is_not_given_the_layers(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """The definition would name layers over a disk that the guest has written to since."""
    define = _in_place._defining.define

    def meanwhile(*args: Any) -> Any:
        host.web1.create()
        return define(*args)

    monkeypatch.setattr(_in_place._defining, "define", meanwhile)
    refused("not_off", lambda: _in_place.resize(host.qemu, host.journal, host.begin("in_place"), shutdown=CUT, watch=WATCH), "web1")
    host.restore_in_place("error")
    assert (host.files, host.places(), bool(host.web1.isActive())) == (["web1.qcow2"], {"web1.qcow2"}, True)


def test_a_swap_disk_left_behind_that_another_guest_uses_is_not_confirmed_away(host: Host) -> None:
    host.resize_in_place()
    swap = host.image("web1-swap.qcow2")
    left = {**host.record["disks"][0], "target": "vdb", "path": swap, "left_behind": True}
    host.journal.update(host.record, disks=[*host.record["disks"], left])
    host.guest("db1", {"vdb": swap})
    refused("disk_in_use_by", host.confirm_in_place, "guest db1 (disk vdb)")
    assert (host.record["status"], host.places()) == ("finished", {"web1.qcow2.resize-U"})


def test_firmware_variables_that_another_guest_uses_are_not_put_back(host: Host) -> None:
    """In place they are replaced by those of the switch."""
    host.resize_in_place()
    variables = host.images / "VARS.fd"
    variables.write_bytes(b"of now")
    host.journal.update(host.record, nvram=str(variables))
    host.guest("db1", {}, os=f"<loader readonly='yes' type='pflash'>/usr/share/OVMF/OVMF_CODE.fd</loader><nvram>{variables}</nvram>")
    refused("disk_in_use_by", lambda: host.restore_in_place("reverted"), "guest db1 (nvram)")
    assert (variables.read_bytes(), host.record["status"]) == (b"of now", "finished")


def test_several_files_are_renamed_all_or_none(host: Host, qemu: Any) -> None:
    free, used = host.image("free.qcow2"), host.image("used.qcow2")
    host.guest("db1", {"vdb": used})
    uses = DiskUses(qemu, host.state)
    refused("disk_in_use_by", lambda: _files.rename(uses, {free: f"{free}.sealed", used: f"{used}.sealed"}, operation="m-1"), "guest db1")
    refused("disk_in_use_by", lambda: _files.replace(uses, free, used, operation="m-1"), "guest db1")
    assert host.files == ["free.qcow2", "used.qcow2", "web1.qcow2"]
