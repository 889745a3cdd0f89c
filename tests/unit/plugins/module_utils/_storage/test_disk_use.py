# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Every way in which a file of a guest may be used on a host is known before the file is touched: real libvirt, real QEMU, real images."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import libvirt
import pytest

from ansible_collections.kvmfleet.compute.plugins.module_utils._journal.records import Journal
from ansible_collections.kvmfleet.compute.plugins.module_utils._rules.errors import KvmfleetError
from ansible_collections.kvmfleet.compute.plugins.module_utils._storage import files as _files
from ansible_collections.kvmfleet.compute.plugins.module_utils._storage.disk_use import DiskUses


@pytest.fixture
def golden(images: Path, qemu_img: Any) -> str:
    """The disk of a guest, which is asked about."""
    qemu_img("create -q -f qcow2 golden.qcow2 16M")
    return str(images / "golden.qcow2")


def who(uses: DiskUses, path: str, **but: Any) -> list[str]:
    return [use.who for use in uses.of([path], **but).get(path, ())]


def test_a_file_that_nothing_names_has_no_use(qemu: Any, state: Any, golden: str) -> None:
    assert DiskUses(qemu, state).of([golden]) == {}
    assert DiskUses(qemu, state).of([]) == {}


@pytest.mark.parametrize("running", [False, True])
def test_a_clone_that_stands_on_a_disk_uses_it_whether_it_runs_or_not(
    qemu: Any, state: Any, images: Path, golden: str, guest: Any, qemu_img: Any, running: bool
) -> None:
    qemu_img(f"create -q -f qcow2 -b {golden} -F qcow2 middle.qcow2")
    qemu_img("create -q -f qcow2 -b middle.qcow2 -F qcow2 clone.qcow2")  # by a relative name
    clone = guest("clone", {"vda": images / "clone.qcow2"}, running=running)
    uses = DiskUses(qemu, state)
    assert who(uses, golden)[0] == "guest clone (below disk vda)"
    assert who(uses, golden, guest=clone.UUIDString()) == []
    with pytest.raises(KvmfleetError, match="golden.qcow2 is used by guest clone ") as refused:
        _files.remove(uses, [golden], operation="m-1")
    assert refused.value.code == "disk_in_use_by"
    assert os.path.exists(golden)


def test_a_disk_that_is_attached_elsewhere_is_used_there_by_whatever_name(qemu: Any, state: Any, images: Path, golden: str, guest: Any) -> None:
    (images / "link.qcow2").symlink_to(golden)
    os.link(golden, images / "other-name.qcow2")
    guest("db1", {"vda": images / "link.qcow2"})
    guest("db2", {"vdb": images / "other-name.qcow2"})
    assert set(who(DiskUses(qemu, state), golden)) == {"guest db1 (disk vda)", "guest db2 (disk vdb)"}


def test_a_disk_that_was_attached_to_what_runs_only_is_used(qemu: Any, state: Any, images: Path, golden: str, guest: Any, qemu_img: Any) -> None:
    """Neither the definition nor the directory tells."""
    qemu_img("create -q -f qcow2 root.qcow2 16M")
    db = guest("db1", {"vda": images / "root.qcow2"}, running=True)
    db.attachDeviceFlags(
        f"<disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='{golden}'/><target dev='vdb' bus='virtio'/></disk>",
        libvirt.VIR_DOMAIN_AFFECT_LIVE,
    )
    assert golden not in db.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)
    assert who(DiskUses(qemu, state), golden) == ["guest db1 (disk vdb)", "a process that has it open as an image (see lsof)"]


def test_snapshots_and_checkpoints_use_the_files_that_they_name(qemu: Any, state: Any, images: Path, golden: str, guest: Any) -> None:
    """Also where the guest itself has gone on elsewhere since."""
    web = guest("web1", {"vda": golden})
    disks = f"<disks><disk name='vda' snapshot='external'><source file='{images}/after.qcow2'/></disk></disks>"
    web.snapshotCreateXML(f"<domainsnapshot><name>nightly</name>{disks}</domainsnapshot>", libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_DISK_ONLY)
    backing = images / "after.qcow2"
    subprocess.run(["qemu-img", "rebase", "-q", "-u", "-f", "qcow2", "-b", "", backing], check=True)
    assert who(DiskUses(qemu, state), golden) == ["snapshot nightly of guest web1 (disk vda)"]


def test_a_block_job_uses_what_it_writes(qemu: Any, state: Any, images: Path, golden: str, guest: Any) -> None:
    web = guest("web1", {"vda": golden}, running=True)
    target = images / "backup.qcow2"
    web.blockCopy("vda", f"<disk type='file'><source file='{target}'/><driver type='qcow2'/></disk>", {}, libvirt.VIR_DOMAIN_BLOCK_COPY_TRANSIENT_JOB)
    try:
        assert "guest web1 (block job on disk vda)" in who(DiskUses(qemu, state), str(target))
    finally:
        web.blockJobAbort("vda", 0)


def test_a_guest_that_was_saved_uses_the_disks_that_it_goes_on_with(qemu: Any, state: Any, images: Path, golden: str, guest: Any, qemu_img: Any) -> None:
    qemu_img("create -q -f qcow2 new.qcow2 16M")
    web = guest("web1", {"vda": golden}, running=True)
    web.managedSave()
    qemu.defineXML(web.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE).replace(golden, f"{images}/new.qcow2"))
    try:
        assert who(DiskUses(qemu, state), golden) == ["guest web1 (disk vda)"]
    finally:
        web.managedSaveRemove()


def test_firmware_variables_are_used_by_the_guest_that_names_them(qemu: Any, state: Any, images: Path, guest: Any) -> None:
    (images / "VARS.fd").write_bytes(bytes(4096))
    nvram = f"<loader readonly='yes' type='pflash'>/usr/share/OVMF/OVMF_CODE.fd</loader><nvram>{images}/VARS.fd</nvram>"
    guest("web1", {}, os=nvram)
    assert who(DiskUses(qemu, state), f"{images}/VARS.fd") == ["guest web1 (nvram)"]


def record(state: Any, role: str, path: str, **more: Any) -> dict[str, Any]:
    disk = {"target": "vda", "kind": "disk", "path": f"{path}.clone", "chain": [[f"{path}.clone", "qcow2", 1], [path, "qcow2", 1]]}
    hosts = {"source_host": "kvm1", "destination_host": "kvm2"}
    known = {"uuid": "m-2", "owner": "o", "role": role, "instance_uuid": "i-2", "instance_name": "clone", **hosts, "disks": [disk], "nvram": None}
    return Journal(state).begin({**known, **more})


def test_the_sealed_copy_of_a_clone_still_stands_on_its_template(qemu: Any, state: Any, golden: str) -> None:
    """No definition names it while the operation on the clone is open."""
    opened = record(state, "source", golden)
    uses = DiskUses(qemu, state)
    assert who(uses, golden) == ["the open operation m-2 on clone"]
    assert who(uses, golden, operation="m-2") == who(uses, golden, guest="i-2") == []
    Journal(state).update(opened, status="error", step="error")
    assert who(uses, golden) == []


def test_the_chain_at_its_source_is_nothing_of_the_host_that_a_guest_comes_to(qemu: Any, state: Any, golden: str) -> None:
    record(state, "destination", golden)
    assert who(DiskUses(qemu, state), golden) == []
    assert who(DiskUses(qemu, state), f"{golden}.clone") == ["the open operation m-2 on clone"]


def test_a_process_that_only_reads_an_image_keeps_it(qemu: Any, state: Any, golden: str) -> None:
    """QEMU's own tools let others read what they read, so that they do not tell."""
    reader = subprocess.Popen(["qemu-io", "-r", "-f", "qcow2", golden], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert reader.stdout is not None
        assert reader.stdin is not None
        reader.stdin.write("length\n")
        reader.stdin.flush()
        while "MiB" not in reader.stdout.readline():
            pass
        assert who(DiskUses(qemu, state), golden) == ["a process that has it open as an image (see lsof)"]
    finally:
        reader.communicate("quit\n")
    assert who(DiskUses(qemu, state), golden) == []


def test_what_cannot_be_read_may_stand_on_anything(qemu: Any, state: Any, images: Path, golden: str, guest: Any) -> None:
    """A chain whose next file is no file, as opposed to one that is missing: then the guest stands on nothing that is here."""
    (images / "directory").mkdir()
    subprocess.run(["qemu-img", "create", "-q", "-u", "-f", "qcow2", "-b", "directory", "-F", "qcow2", images / "odd.qcow2", "1M"], check=True)
    guest("odd", {"vda": images / "odd.qcow2"})
    guest("gone", {"vda": images / "gone.qcow2"})
    found = who(DiskUses(qemu, state), golden)
    assert len(found) == 1
    assert "perhaps guest odd (disk vda: " in found[0]
    assert DiskUses(qemu, state).of(["/dev/shm/elsewhere.qcow2"]) == {}


def test_a_reading_of_the_host_is_never_an_old_one(qemu: Any, state: Any, golden: str, guest: Any) -> None:
    uses = DiskUses(qemu, state)
    assert uses.of([golden]) == {}
    web = guest("web1", {"vda": golden})
    assert who(uses, golden) == ["guest web1 (disk vda)"]
    web.undefine()
    assert uses.of([golden]) == {}


def test_it_is_cheap_to_ask_of_a_host_with_fifty_guests(qemu: Any, state: Any, images: Path, golden: str, guest: Any, qemu_img: Any) -> None:
    """It is asked while a guest is down."""
    for number in range(50):
        qemu_img(f"create -q -f qcow2 -b {golden} -F qcow2 clone{number}.qcow2")
        guest(f"clone{number}", {"vda": images / f"clone{number}.qcow2"})
    uses = DiskUses(qemu, state)
    spent = []
    for _time in range(3):
        began = time.process_time()
        assert len(who(uses, golden)) == 50
        spent.append(time.process_time() - began)
    print(f"seconds: {spent}", file=sys.stderr)
    assert min(spent) < 0.3


def test_nothing_is_removed_unless_all_of_it_may_be(qemu: Any, state: Any, images: Path, golden: str, guest: Any) -> None:
    (images / "free.qcow2").touch()
    guest("web1", {"vda": golden})
    uses = DiskUses(qemu, state)
    with pytest.raises(KvmfleetError):
        _files.remove(uses, [str(images / "free.qcow2"), golden], operation="m-1")
    assert sorted(os.listdir(images)) == ["free.qcow2", "golden.qcow2"]
    assert _files.remove_unused(uses, [str(images / "free.qcow2"), golden], operation="m-1") == [golden]
    assert os.listdir(images) == ["golden.qcow2"]
    assert not _files.remove(uses, [str(images / "free.qcow2")], operation="m-1")


def test_a_name_that_is_taken_is_not_taken_away(qemu: Any, state: Any, images: Path, golden: str) -> None:
    (images / "other.qcow2").write_text("another")
    with pytest.raises(KvmfleetError) as refused:
        _files.rename(DiskUses(qemu, state), {golden: f"{images}/other.qcow2"}, operation="m-1")
    assert refused.value.code == "path_taken"
    assert (images / "other.qcow2").read_text() == "another"
    assert os.path.exists(golden)
