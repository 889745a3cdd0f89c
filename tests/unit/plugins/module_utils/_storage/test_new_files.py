# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The files of disks that an operation adds: formatted, known by the record before they exist, and gone when it is undone."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.kvmfleet.compute.plugins.module_utils._journal.records import Journal
from ansible_collections.kvmfleet.compute.plugins.module_utils._operation import admission as _admission, placing as _placing, withdrawing as _withdrawing
from ansible_collections.kvmfleet.compute.plugins.module_utils._rules.errors import KvmfleetError
from ansible_collections.kvmfleet.compute.plugins.module_utils._storage import new_files as _new_files, qemu_img as _qemu_img
from ansible_collections.kvmfleet.compute.plugins.module_utils._storage.disk_use import DiskUses
from ansible_collections.kvmfleet.compute.tests.unit.plugins.module_utils.durability import Killed

MIB = 1024**2
INSTANCE = "8f1c9f54-6c1a-4a55-a5d5-b1a4f6f1f3a7"


@pytest.fixture
def journal(state: Any) -> Journal:
    return Journal(state)


@pytest.fixture
def record(journal: Journal, images: Path) -> dict[str, Any]:
    """Of an operation that adds an ephemeral and a swap disk."""
    new = [
        {"role": "ephemeral", "target": "vdb", "path": f"{images}/web-ephemeral0.qcow2", "format": "qcow2", "size": 64 * MIB},
        {"role": "swap", "target": "vdc", "path": f"{images}/web-swap.qcow2", "format": "qcow2", "size": 8 * MIB},
    ]
    begun = {
        "uuid": "m-1",
        "owner": "o",
        "role": "destination",
        "source_host": "kvm1",
        "destination_host": "kvm2",
        "nvram": None,
        "disks": [],
        "new_disks": new,
    }
    return journal.begin({**begun, "instance_uuid": INSTANCE, "instance_name": "web"})


def content(path: str, images: Path, qemu_img: Callable[[str], str]) -> Path:
    raw = images.parent / "content.raw"
    qemu_img(f"convert -f qcow2 -O raw {path} {raw}")
    return raw


def test_both_are_formatted_sparse_and_private(journal: Journal, record: dict[str, Any], images: Path, qemu_img: Callable[[str], str]) -> None:
    made = _new_files.make(journal, record)
    assert sorted(os.listdir(images)) == ["web-ephemeral0.qcow2", "web-swap.qcow2"]
    for disk in made["new_disks"]:
        found = _qemu_img.info(disk["path"], "qcow2")
        assert (found.virtual_size, found.backing_path) == (disk["size"], None)
        assert found.actual_size < 6 * MIB
        assert os.stat(disk["path"]).st_mode & 0o777 == 0o600
        assert made["inodes"][disk["path"]] == os.stat(disk["path"]).st_ino
    ephemeral, swap = (content(disk["path"], images, qemu_img).read_bytes() for disk in made["new_disks"])
    assert (ephemeral[1024 + 56 : 1024 + 58], ephemeral[1024 + 120 : 1024 + 136].rstrip(b"\0")) == (b"\x53\xef", b"ephemeral0")
    assert swap[4086:4096] == b"SWAPSPACE2"
    # Version 1 and the number of the last page: all of the disk is used.
    assert (int.from_bytes(swap[1024:1028], "little"), int.from_bytes(swap[1028:1032], "little")) == (1, 8 * MIB // 4096 - 1)


def test_the_filesystem_is_sound(journal: Journal, record: dict[str, Any], images: Path, qemu_img: Callable[[str], str]) -> None:
    made = _new_files.make(journal, record)
    raw = content(made["new_disks"][0]["path"], images, qemu_img)
    checked = subprocess.run(["e2fsck", "-fn", raw], check=False, capture_output=True, text=True, env={**os.environ, "PATH": _new_files._path()})
    assert checked.returncode == 0, checked.stdout


def test_made_anew_it_has_the_same_identity(qemu: Any, journal: Journal, record: dict[str, Any], images: Path, qemu_img: Callable[[str], str]) -> None:
    """A guest may mount its swap by UUID."""
    path = _new_files.make(journal, record)["new_disks"][1]["path"]
    first = content(path, images, qemu_img).read_bytes()[1036:1052]
    _new_files.remove(DiskUses(qemu, journal.state), record)
    record["new_disks"][1]["size"] = 16 * MIB
    _new_files.make(journal, record)
    assert first == content(path, images, qemu_img).read_bytes()[1036:1052] != bytes(16)


def test_what_is_made_goes_with_the_operation(qemu: Any, journal: Journal, record: dict[str, Any], images: Path) -> None:
    _new_files.make(journal, record)
    _withdrawing.withdraw(qemu, journal, journal.get("m-1"), status="error")
    assert os.listdir(images) == []


@pytest.mark.parametrize("call", range(13))
def test_killed_at_any_point_nothing_stays(
    qemu: Any, journal: Journal, record: dict[str, Any], images: Path, monkeypatch: pytest.MonkeyPatch, call: int
) -> None:
    """What the journal on the disk says is enough to remove what is there."""
    calls = iter(range(99))

    def dying(function: Callable[..., Any]) -> Callable[..., Any]:
        def act(*args: Any, **kwargs: Any) -> Any:
            if next(calls) == call:
                raise Killed
            return function(*args, **kwargs)

        return act

    monkeypatch.setattr(_new_files, "_run", dying(_new_files._run))
    monkeypatch.setattr(_qemu_img, "convert_raw", dying(_qemu_img.convert_raw))
    for name in ("link", "fchmod"):
        monkeypatch.setattr(os, name, dying(getattr(os, name)))
    if call < 12:
        with pytest.raises(Killed):
            _new_files.make(journal, record)
    else:
        _new_files.make(journal, record)
    monkeypatch.undo()
    assert os.listdir(images) != []
    _withdrawing.withdraw(qemu, journal, journal.get("m-1"), status="error")
    assert os.listdir(images) == []


def test_a_file_that_is_not_ours_is_neither_replaced_nor_removed(qemu: Any, journal: Journal, record: dict[str, Any], images: Path) -> None:
    (images / "web-swap.qcow2").write_text("precious")
    with pytest.raises(KvmfleetError) as caught:
        _new_files.make(journal, record)
    assert caught.value.code == "path_taken"
    _new_files.remove(DiskUses(qemu, journal.state), journal.get("m-1"))
    assert (os.listdir(images), (images / "web-swap.qcow2").read_text()) == (["web-swap.qcow2"], "precious")


def test_a_file_that_took_the_name_of_ours_stays(qemu: Any, journal: Journal, record: dict[str, Any], images: Path) -> None:
    _new_files.make(journal, record)
    (images / "other").write_text("precious")
    os.replace(images / "other", images / "web-swap.qcow2")
    _new_files.remove(DiskUses(qemu, journal.state), journal.get("m-1"))
    assert os.listdir(images) == ["web-swap.qcow2"]


def test_without_such_disks_nothing_is_written(journal: Journal, record: dict[str, Any], images: Path) -> None:
    record["new_disks"] = []
    before = json.dumps(journal.get("m-1"))
    assert _new_files.make(journal, record) is record
    assert (os.listdir(images), json.dumps(journal.get("m-1"))) == ([], before)


def test_why_it_failed(journal: Journal, record: dict[str, Any]) -> None:
    record["new_disks"][1]["size"] = 4096
    with pytest.raises(KvmfleetError) as caught:
        _new_files.make(journal, record)
    assert caught.value.code == "format_failed"
    assert caught.value.message.startswith("mkswap -U ")
    assert caught.value.message.endswith("swap area needs to be at least 40 KiB")


class TestAdmission:
    def test_a_host_that_has_the_name_or_lacks_a_tool_is_no_destination(self, record: dict[str, Any], images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        assert _admission._new_file_reasons(record) == []
        (images / "web-swap.qcow2").symlink_to("nowhere")
        monkeypatch.setattr(_new_files, "_SYSTEM_DIRECTORIES", "")
        monkeypatch.setenv("PATH", str(images))
        found = [(reason["code"], reason["reason"]) for reason in _admission._new_file_reasons(record)]
        assert found == [
            ("path_taken", f"{images}/web-swap.qcow2 exists here already, and a disk that the flavor has would be made there"),
            ("tool_missing", "mke2fs is not installed here"),
            ("tool_missing", "mkswap is not installed here"),
        ]

    def test_a_disk_of_the_guest_comes_to_lie_there(self, record: dict[str, Any], images: Path) -> None:
        disks = [{"target": "vda", "path": f"{images}/web-swap.qcow2"}]
        assert [reason["code"] for reason in _admission._new_file_reasons({**record, "disks": disks})] == ["path_taken"]

    def test_an_operation_of_an_older_release_has_none(self, record: dict[str, Any]) -> None:
        del record["new_disks"]
        assert _admission._new_file_reasons(record) == []


class TestClaim:
    @pytest.mark.parametrize(
        ("root", "expected"),
        [
            ({"path": "/srv/fast/web.qcow2", "pool": None}, ("/srv/fast/web-swap.qcow2", None, None)),
            ({"path": "/srv/pool/web.qcow2", "pool": "vms"}, ("/srv/pool/web-swap.qcow2", "vms", "web-swap.qcow2")),
        ],
    )
    def test_they_lie_beside_the_root_disk_as_it_lies_here(self, root: dict[str, Any], expected: tuple[str, str | None, str | None]) -> None:
        planned = {"target": "vdb", "path": "/images/web-swap.qcow2", "pool": "there", "volume": "x", "size": 1}
        found = _placing._beside_here(planned, root)
        assert (found["path"], found["pool"], found["volume"]) == expected
        assert (found["target"], found["size"]) == ("vdb", 1)

    @pytest.mark.parametrize(("role", "status"), [("destination", "error"), ("in_place", "pre-migrating")])
    def test_what_cannot_be_made_gives_the_claim_back(self, journal: Journal, state: Any, record: dict[str, Any], images: Path, role: str, status: str) -> None:
        """In place the run undoes it: its record was there before the claim."""
        record["new_disks"][1]["size"] = 4096
        journal.update(record)
        state.write("claims", "m-1", {})
        with pytest.raises(KvmfleetError, match="mkswap"):
            _placing.make(None, journal, {"migration_uuid": "m-1", "owner": "o", "role": role})
        assert journal.get("m-1")["status"] == status
        assert (state.read("claims", "m-1") is None, os.listdir(images) == []) == (status == "error", status == "error")
