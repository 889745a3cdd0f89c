# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Directories of a guest below those of the host: made with owner and mode, and gone again with the last file of the guest, but no other directory."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import libvirt
import pytest

from ansible_collections.kvmfleet.compute.plugins.module_utils._host.state import Reserved
from ansible_collections.kvmfleet.compute.plugins.module_utils._journal.records import Journal
from ansible_collections.kvmfleet.compute.plugins.module_utils._journal.state_dir import StateDir
from ansible_collections.kvmfleet.compute.plugins.module_utils._libvirt import domains as _domains, storage as _storage
from ansible_collections.kvmfleet.compute.plugins.module_utils._operation import (
    admission as _admission,
    placing as _placing,
    sealing as _sealing,
    withdrawing as _withdrawing,
)
from ansible_collections.kvmfleet.compute.plugins.module_utils._rules.errors import KvmfleetError
from ansible_collections.kvmfleet.compute.plugins.module_utils._storage import (
    directories as _directories,
    leftovers as _leftovers,
    pools as _pools,
    qemu_user as _qemu_user,
)
from ansible_collections.kvmfleet.compute.plugins.module_utils._storage.disk_use import DiskUses
from ansible_collections.kvmfleet.compute.plugins.module_utils._storage.incoming import part_path
from ansible_collections.kvmfleet.compute.tests.unit.plugins.module_utils.durability import Killed, Recorder, dying
from ansible_collections.kvmfleet.compute.tests.unit.plugins.module_utils.handed import disk, plan

UUID = "0f5d8f9c-2c1e-4f0a-9d35-3a2a5cf0a114"
NOBODY = {"uid": 65534, "gid": 65534, "user": "nobody", "group": "nogroup", "mode": 0o2751, "of_qemu": [False, False]}
OF_QEMU = {"uid": 64055, "gid": 64055, "user": "libvirt-qemu", "group": "kvm", "mode": 0o711, "of_qemu": [True, True]}
REQUIREMENTS = {
    **dict.fromkeys(("machine", "loader", "nvram_template", "host_cpus", "huge_pages", "dedicated", "server_group")),
    **{name: [] for name in ("networks", "bridges", "mtus", "pinned_cpus", "network_disks", "macs")},
    "arch": "x86_64",
    "virt_type": "qemu",
    "emulator": "/usr/bin/qemu-system-x86_64",
}


class Destination:
    """A host that a guest comes to, as far as directories go."""

    def __init__(self, conn: libvirt.virConnect, state: StateDir, images: Path) -> None:
        self.conn, self.journal, self.images = conn, Journal(state), images

    def record(self, *paths: str, uuid: str = "m-1", instance: str = UUID, **changes: Any) -> dict[str, Any]:
        """Of a guest with these files below the images."""
        disks = [disk(f"{self.images}/{path}", f"vd{chr(97 + number)}", virtual_size=2**20) for number, path in enumerate(paths)]
        more = {"uuid": uuid, "owner": "o", "role": "destination", "destination_host": "kvm2", "image_directories": [str(self.images)], "probes": {}}
        return {**plan("web", instance, disks, **changes), **more, "requirements": REQUIREMENTS}

    def admit(self, record: dict[str, Any]) -> dict[str, Any]:
        ratios = {"cpu": 1000.0, "ram": 1000.0, "disk": 1000.0}
        more = {"images_path": str(self.images), "reserved": Reserved(), "ratios": ratios, "proofs": {}, "key": None}
        _admission.admit(self.conn, self.journal, record, requirements=REQUIREMENTS, **more)
        return self.journal.get(record["uuid"])

    def claimed(self, *paths: str, **changes: Any) -> dict[str, Any]:
        record = self.admit(self.record(*paths, **changes))
        return _admission.make_directories(self.conn, self.journal, record)

    def undo(self, uuid: str = "m-1") -> None:
        _withdrawing.withdraw(self.conn, self.journal, self.journal.get(uuid), status="error")

    def uses(self) -> DiskUses:
        return DiskUses(self.conn, self.journal.state)

    def tree(self) -> list[str]:
        """Everything below the images."""
        return sorted(str(path.relative_to(self.images)) for path in self.images.rglob("*"))

    def look(self, path: str) -> tuple[int, int, int]:
        status = os.stat(self.images / path)
        return status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)


@pytest.fixture
def destination(qemu: libvirt.virConnect, state: StateDir, images: Path) -> Destination:
    return Destination(qemu, state, images)


def codes(error: KvmfleetError) -> list[str]:
    return [reason["code"] for reason in error.details["reasons"]]


def test_a_directory_of_a_guest_is_made_with_owner_and_mode_and_goes_when_that_is_undone(destination: Destination) -> None:
    images = destination.images
    told = {f"{images}/instances": NOBODY, f"{images}/instances/web": OF_QEMU, f"{images}/unrelated": NOBODY}
    record = destination.claimed("instances/web/vda", "instances/web/vdb", "plain", directories=told)
    assert destination.tree() == ["instances", "instances/web"]
    qemu = _qemu_user.of_host(destination.conn)
    assert destination.look("instances") == (65534, 65534, 0o2751)
    assert destination.look("instances/web") == (qemu.uid, qemu.gid, 0o711)
    assert {os.path.relpath(path, images): one["inode"] for path, one in record["made_directories"].items()} == {
        name: os.stat(images / name).st_ino for name in ("instances", "instances/web")
    }
    destination.undo()
    assert destination.tree() == []
    assert destination.journal.get("m-1")["made_directories"] == {}


def test_one_of_which_the_source_tells_nothing_lets_everybody_through_and_nobody_in(destination: Destination) -> None:
    destination.claimed("web/vda")
    assert destination.look("web") == (os.geteuid(), os.getegid(), 0o711)


def test_a_directory_that_is_there_is_left_as_it_is(destination: Destination) -> None:
    (destination.images / "web").mkdir(mode=0o700)
    record = destination.claimed("web/vda", directories={f"{destination.images}/web": NOBODY})
    assert (record["made_directories"], destination.look("web")[2]) == ({}, 0o700)
    destination.undo()
    assert destination.tree() == ["web"]


def test_what_the_host_has_for_guests_is_never_made(destination: Destination) -> None:
    """Neither the directory of images nor one within it, nor that of firmware variables or of logs."""
    inner = destination.images / "fast"
    record = {**destination.record("fast/web/vda"), "image_directories": [str(destination.images), str(inner)]}
    with pytest.raises(KvmfleetError, match=f"the directory {inner} does not exist here") as caught:
        destination.admit(record)
    assert codes(caught.value) == ["directory_missing"]
    assert destination.tree() == []
    inner.mkdir()
    record = _admission.make_directories(destination.conn, destination.journal, destination.admit(record))
    assert destination.tree() == ["fast", "fast/web"]
    destination.undo()
    assert destination.tree() == ["fast"]


def test_the_directory_of_a_pool_is_never_made(destination: Destination) -> None:
    record = destination.record("pool/vda")
    record["disks"][0].update(pool="vms", volume="vda")
    with pytest.raises(KvmfleetError) as caught:
        destination.admit(record)
    assert codes(caught.value) == ["directory_missing"]
    assert destination.tree() == []


def test_a_file_in_the_way_and_a_link_are_refused(destination: Destination, tmp_path: Path) -> None:
    (destination.images / "web").write_text("mine")
    with pytest.raises(KvmfleetError) as caught:
        destination.admit(destination.record("web/vda"))
    assert codes(caught.value) == ["path_taken"]
    (destination.images / "web").unlink()
    (destination.images / "web").symlink_to(tmp_path)
    with pytest.raises(KvmfleetError) as caught:
        destination.admit(destination.record("web/sub/vda"))
    assert codes(caught.value) == ["image_is_symlink"]
    assert not (tmp_path / "sub").exists()


def test_a_link_that_comes_in_the_way_after_the_claim_is_not_followed(destination: Destination, tmp_path: Path) -> None:
    record = destination.admit(destination.record("web/sub/vda"))
    (destination.images / "web").symlink_to(tmp_path)
    with pytest.raises(KvmfleetError) as caught:
        _admission.make_directories(destination.conn, destination.journal, record)
    assert caught.value.code == "image_is_symlink"
    assert not (tmp_path / "sub").exists()
    destination.undo()
    assert destination.tree() == ["web"]


def test_a_run_that_dies_at_any_call_leaves_nothing_after_its_undo(destination: Destination, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While it makes them, tries files in them, or removes them again; the journal is written before and after."""
    reached = [0, 0]
    for part in (0, 1):
        died = True
        while died:
            uuid = f"m-{part}-{reached[part]}"
            record = destination.admit(destination.record("web/deep/vda", "other/vdb", uuid=uuid))
            if part == 1:
                _admission.make_directories(destination.conn, destination.journal, record)
            with dying(monkeypatch, reached[part], below=tmp_path) as told:
                with contextlib.suppress(Killed):
                    if part == 0:
                        _admission.make_directories(destination.conn, destination.journal, record)
                    else:
                        destination.undo(uuid)
                died = told()
            destination.undo(uuid)
            assert destination.tree() == [], (part, reached)
            reached[part] += 1
    assert min(reached) > 10


def test_the_journal_knows_them_before_they_have_their_names(destination: Destination, monkeypatch: pytest.MonkeyPatch) -> None:
    record = destination.admit(destination.record("web/vda"))
    recorder = Recorder(monkeypatch, destination.journal.state)
    _directories.make(destination.journal, record)
    destination.undo()
    recorder.require_order()
    events = [(event, *map(os.path.basename, paths)) for event, *paths in recorder.events if event in ("journal", "rename", "rmdir")]
    assert events.index(("journal", "migrations", "admitted")) < events.index(("rename", "web.m-1.part", "web")) < events.index(("rmdir", "web"))


def test_what_somebody_else_has_made_meanwhile_is_not_ours(destination: Destination) -> None:
    record = destination.admit(destination.record("web/vda"))
    (destination.images / "web").mkdir()
    record = _admission.make_directories(destination.conn, destination.journal, record)
    assert record["made_directories"] == {}
    destination.undo()
    assert destination.tree() == ["web"]


def test_a_directory_with_anything_in_it_stays_and_goes_no_further(destination: Destination) -> None:
    destination.claimed("instances/web/vda")
    (destination.images / "instances/web/notes").write_text("mine")
    destination.undo()
    assert destination.tree() == ["instances", "instances/web", "instances/web/notes"]


def test_one_that_was_replaced_is_not_removed(destination: Destination) -> None:
    destination.claimed("web/vda")
    (destination.images / "web").rename(destination.images / "kept")
    (destination.images / "web").mkdir()
    destination.undo()
    assert destination.tree() == ["kept", "web"]


def test_what_another_guest_or_another_operation_needs_stays(destination: Destination, guest: Callable[..., Any]) -> None:
    """Also where no file is there yet; the operation that is undone last removes it."""
    destination.claimed("team/vda", "guests/vdc")
    guest("db", {"vda": f"{destination.images}/guests/db.qcow2"})
    other = destination.claimed("team/other", uuid="m-2", instance=UUID.replace("114", "115"), instance_name="db2")
    assert list(other["made_directories"]) == [f"{destination.images}/team"]
    destination.undo()
    assert destination.tree() == ["guests", "team"]
    destination.undo("m-2")
    assert destination.tree() == ["guests"]


def test_the_directory_of_a_pool_is_in_use_though_nothing_is_in_it(state: StateDir) -> None:
    connection = libvirt.open("test:///default")
    (path,) = {_pools.facts(pool)["path"] for pool in _storage.all_pools(connection)}
    assert DiskUses(connection, state).within([path, "/nobody"], operation="m-1") == {path}


def test_a_directory_that_does_not_let_qemu_through_is_refused_and_gone_again(destination: Destination) -> None:
    """As a claim is given back that was made already."""
    record = destination.admit(destination.record("web/vda", directories={f"{destination.images}/web": {**NOBODY, "mode": 0o700}}))
    with pytest.raises(KvmfleetError, match=f"the directory {destination.images}/web belongs to nobody:nogroup 0700") as caught:
        _placing.make(destination.conn, destination.journal, {"migration_uuid": record["uuid"], "owner": "o", "role": "destination"})
    assert codes(caught.value) == ["qemu_cannot_open"]
    assert (destination.tree(), destination.journal.get("m-1")["status"]) == ([], "error")


def test_a_directory_that_is_gone_again_is_made_where_it_is_needed(destination: Destination) -> None:
    record = destination.claimed("web/vda")
    (destination.images / "web").rmdir()
    record = _directories.make(destination.journal, record)
    assert record["made_directories"][f"{destination.images}/web"]["inode"] == os.stat(destination.images / "web").st_ino
    destination.undo()
    assert destination.tree() == []


def test_what_is_kept_of_a_broken_copy_keeps_its_directory_as_long(destination: Destination) -> None:
    record = destination.claimed("web/vda")
    Path(part_path(record, record["disks"][0]["path"])).write_bytes(b"x" * 17 * 2**20)
    _withdrawing.withdraw(destination.conn, destination.journal, record, status="error", keep_partial=60)
    assert destination.tree() == ["web", f"web/vda.{UUID}.kept"]
    again = destination.claimed("web/vda", uuid="m-2")
    assert list(again["made_directories"]) == [f"{destination.images}/web"]
    _withdrawing.withdraw(destination.conn, destination.journal, again, status="error", keep_partial=60)
    assert destination.tree() == ["web", f"web/vda.{UUID}.kept"]
    _leftovers.make_room(destination.journal.state)
    assert destination.tree() == []


def test_room_and_names_are_judged_where_the_directory_would_be(destination: Destination) -> None:
    record = destination.record("web/vda")
    record["disks"][0]["allocated_bytes"] = 2**60
    with pytest.raises(KvmfleetError) as caught:
        destination.admit(record)
    assert codes(caught.value) == ["no_space"]
    with pytest.raises(KvmfleetError) as caught:
        destination.admit(destination.record(f"{'d' * 250}/vda"))
    assert codes(caught.value) == ["name_too_long"]
    assert destination.tree() == []


@pytest.fixture
def source(destination: Destination) -> Callable[..., dict[str, Any]]:
    """A sealed copy with these files, from before the guest was sealed to when it is confirmed."""

    def sealed(*paths: str, **changes: Any) -> dict[str, Any]:
        record = {**destination.record(*paths, **changes), "role": "source"}
        for path in paths:
            (destination.images / path).parent.mkdir(parents=True, exist_ok=True)
            (destination.images / path).write_bytes(b"disk")
        record = destination.journal.begin({**record, "own_directories": _directories.own(destination.journal.state, record)})
        for one in record["disks"]:
            os.rename(one["path"], _sealing.sealed_path(record, one))
        destination.journal.update(record, status="migrating", step="sealed")
        return destination.journal.update(record, status="finished", step="finished")

    return sealed


def test_confirm_removes_the_directories_in_which_nothing_but_the_guest_lay(destination: Destination, source: Callable[..., dict[str, Any]]) -> None:
    """The one above is of all guests, though no other is there, and what lies beside a disk is somebody's."""
    (destination.images / "shared").mkdir()
    (destination.images / "shared/notes").write_text("mine")
    record = source("instances/web/vda", "instances/web/more/vdb", "shared/vdc", "vdd")
    assert {os.path.relpath(path, destination.images) for path in record["own_directories"]} == {"instances/web", "instances/web/more"}
    assert _sealing.discard(destination.conn, destination.journal, record)
    assert destination.tree() == ["instances", "shared", "shared/notes"]


def test_confirm_leaves_the_directories_of_logs_and_media(destination: Destination, source: Callable[..., dict[str, Any]]) -> None:
    """It removes neither, and that of logs is libvirt's own as a rule."""
    for name in ("logs", "media"):
        (destination.images / name).mkdir()
        (destination.images / name / "file").write_text("of the guest")
    drive = disk(f"{destination.images}/media/file", "sda", kind="media", format="raw")
    record = {**destination.record(console_logs=[{"path": f"{destination.images}/logs/file", "append": True}]), "disks": [drive]}
    assert _directories.own(destination.journal.state, record) == {}


def test_confirm_removes_what_an_operation_has_made(destination: Destination, source: Callable[..., dict[str, Any]]) -> None:
    arrived = destination.claimed("instances/web/vda", uuid="m-0")
    destination.journal.update(arrived, status="migrating")
    destination.journal.update(arrived, status="finished")
    destination.journal.update(arrived, status="confirming")
    destination.journal.close(arrived, "confirmed")
    record = source("instances/web/vda")
    assert _sealing.discard(destination.conn, destination.journal, record)
    assert destination.tree() == []


@pytest.mark.parametrize("use", ["a file", "another guest", "a replaced one"])
def test_confirm_leaves_a_directory_that_is_in_use_since(
    destination: Destination, source: Callable[..., dict[str, Any]], guest: Callable[..., Any], use: str
) -> None:
    record = source("web/vda")
    if use == "a file":
        (destination.images / "web/new").write_text("mine")
    elif use == "another guest":
        guest("db", {"vda": f"{destination.images}/web/db.qcow2"})
    else:
        record["own_directories"] = {path: inode + 1 for path, inode in record["own_directories"].items()}
    assert _sealing.discard(destination.conn, destination.journal, record)
    assert (destination.images / "web").is_dir()


def test_a_record_of_an_older_release_removes_none(destination: Destination, source: Callable[..., dict[str, Any]]) -> None:
    record = source("web/vda")
    del record["own_directories"]
    assert _sealing.discard(destination.conn, destination.journal, record)
    assert destination.tree() == ["web"]


def test_directories_are_called_as_they_are_here() -> None:
    told = {"/images/instances/web": NOBODY, "/images/instances": OF_QEMU, "/data/web": NOBODY, "/etc/libvirt/vars": OF_QEMU}
    files = [("/srv/instances/web/vda", "/images/instances/web/vda"), ("/fast//web/vdb", "/data/web/vdb"), ("/etc/libvirt/vars/x", "/etc/libvirt/vars/x")]
    assert _directories.called_here(told, files) == {
        "/srv/instances/web": NOBODY,
        "/srv/instances": OF_QEMU,
        "/fast/web": NOBODY,
        "/etc/libvirt/vars": OF_QEMU,
    }


def test_the_source_tells_of_those_below_the_ones_for_images(destination: Destination) -> None:
    (destination.images / "a/b").mkdir(parents=True)
    (destination.images / "a").chmod(0o2750)
    process = _qemu_user.of_host(destination.conn)
    found = _directories.facts(process, [(f"{destination.images}/a//b/vda", [str(destination.images)]), ("/elsewhere/x/vdb", [str(destination.images)])])
    assert {os.path.relpath(path, destination.images): one["mode"] for path, one in found.items()} == {"a": 0o2750, "a/b": 0o755}
    assert _domains.all_domains(destination.conn) == []
