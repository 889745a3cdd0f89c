# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Directories that two hosts share, and what becomes of disks there."""

from __future__ import annotations

import uuid
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ansible_collections.kvmfleet.compute.plugins.module_utils._journal.records import Journal
from ansible_collections.kvmfleet.compute.plugins.module_utils._operation import placing as _placing, sealing as _sealing, withdrawing as _withdrawing
from ansible_collections.kvmfleet.compute.plugins.module_utils._rules.errors import KvmfleetError
from ansible_collections.kvmfleet.compute.plugins.module_utils._storage import places as _places, shared_storage as _shared_storage
from ansible_collections.kvmfleet.compute.plugins.module_utils._storage.incoming import exports
from ansible_collections.kvmfleet.compute.plugins.modules import migration


def test_a_directory_is_known_by_what_the_other_host_wrote_there(tmp_path: Path) -> None:
    here, other = tmp_path / "here", tmp_path / "other"
    here.mkdir()
    other.mkdir()
    (tmp_path / "mounted").symlink_to(here)
    probes = _shared_storage.draw([str(here), str(here)])
    _shared_storage.write({**probes, "/nowhere": {"name": "x", "content": "y"}})
    assert _shared_storage.sees(str(here), probes[str(here)])
    assert _shared_storage.sees(str(tmp_path / "mounted"), probes[str(here)])
    assert not _shared_storage.sees(str(other), probes[str(here)])
    assert not _shared_storage.sees(str(here), None)
    _shared_storage.remove({"probes": probes})
    assert not _shared_storage.sees(str(here), probes[str(here)])
    assert list(here.iterdir()) == []


def test_the_content_counts_and_no_other_file_is_read(tmp_path: Path) -> None:
    (probe,) = _shared_storage.draw([str(tmp_path)]).values()
    path = tmp_path / probe["name"]
    for content in ("", probe["content"] + "x", probe["content"][:-1], "x" * 64):
        path.write_text(content)
        assert not _shared_storage.sees(str(tmp_path), probe)
    path.unlink()
    (tmp_path / "elsewhere").write_text(probe["content"])
    path.symlink_to(tmp_path / "elsewhere")
    assert not _shared_storage.sees(str(tmp_path), probe)
    assert not _shared_storage.sees(str(tmp_path), {**probe, "name": "elsewhere"})
    assert not _shared_storage.sees(str(tmp_path / "x"), {**probe, "name": "../elsewhere"})


def disk(directory: Path, **more: Any) -> dict[str, Any]:
    return {"target": "vda", "kind": "disk", "path": str(directory / "web.raw"), "format": "raw", "bases": [], "grow_to": None, **more}


@pytest.fixture
def probes(tmp_path: Path) -> dict[str, dict[str, str]]:
    drawn = _shared_storage.draw([str(tmp_path)])
    _shared_storage.write(drawn)
    return drawn


def test_a_disk_there_stays_the_file_that_it_is(tmp_path: Path, probes: dict[str, dict[str, str]]) -> None:
    base = {"path": str(tmp_path / "base.qcow2")}
    for one in (disk(tmp_path), disk(tmp_path, base=base), disk(tmp_path, kind="media")):
        Path(one["path"]).touch()
        assert _placing._here(None, one, one["path"], asked(tmp_path, probes)) == {**one, "shared": True}
    assert _placing._here(None, disk(tmp_path), disk(tmp_path)["path"], asked(tmp_path, {})).get("shared") is None


def asked(directory: Path, probes: dict[str, dict[str, str]]) -> dict[str, Any]:
    return {"probes": probes, "migration_uuid": "m", "image_directories": [], "images_path": str(directory)}


def test_a_host_that_may_not_open_it_says_so_before_the_guest_stops(tmp_path: Path, probes: dict[str, dict[str, str]]) -> None:
    Path(disk(tmp_path)["path"]).touch()
    found = _placing._here(None, disk(tmp_path), disk(tmp_path)["path"], asked(tmp_path / "other", probes))
    record = {"instance_uuid": str(uuid.uuid4()), "disks": [found], "image_directories": [str(tmp_path / "other")]}
    assert "shared" not in found
    assert [code for code, _reason in _places.reasons_here(record)] == ["image_outside_directories"]


@pytest.mark.parametrize(("more", "code"), [({"grow_to": 2**30}, "shared_growth"), ({"bases": [{"path": "/elsewhere/base.qcow2"}]}, "base_not_shared")])
def test_what_would_have_to_be_changed_in_it_is_refused(tmp_path: Path, probes: dict[str, dict[str, str]], more: dict[str, Any], code: str) -> None:
    with pytest.raises(KvmfleetError) as caught:
        _placing._here(None, disk(tmp_path, **more), disk(tmp_path)["path"], asked(tmp_path, probes))
    assert caught.value.code == code


@pytest.fixture
def record(tmp_path: Path, state: Any) -> dict[str, Any]:
    """An operation that is open at this host."""
    path = tmp_path / "web.raw"
    path.write_bytes(b"the guest's")
    given = {"uuid": "m", "instance_uuid": "i", "instance_name": "web", "source_host": "kvm1", "destination_host": "kvm2", "owner": "o", "role": "source"}
    return Journal(state).begin({**given, "disks": [disk(tmp_path, shared=True)], "nvram": None})


def test_nothing_of_it_travels_and_nothing_of_it_is_removed(tmp_path: Path, state: Any, record: dict[str, Any]) -> None:
    journal = Journal(state)
    assert exports(record) == {}
    record = journal.update(record, status="migrating")
    record = journal.update(record, status="finished")
    assert _sealing.discard(None, journal, record)
    assert (tmp_path / "web.raw").read_bytes() == b"the guest's"


def test_the_destination_withdraws_without_it(tmp_path: Path, state: Any, record: dict[str, Any]) -> None:
    assert _withdrawing.withdraw(None, Journal(state), record, status="error")
    assert (tmp_path / "web.raw").read_bytes() == b"the guest's"


def test_the_source_looks_for_what_the_destination_wrote(tmp_path: Path, state: Any, record: dict[str, Any]) -> None:
    journal, theirs = Journal(state), _shared_storage.draw([str(tmp_path)])
    record = journal.update(record, disks=[disk(tmp_path)])
    params = {"migration_uuid": "m", "owner": "o", "shared": ["vda"], "probes": theirs}
    with pytest.raises(KvmfleetError) as caught:
        migration.share(SimpleNamespace(check_mode=False, params=params), journal)
    assert caught.value.code == "storage_not_shared"
    _shared_storage.write(theirs)
    assert migration.share(SimpleNamespace(check_mode=False, params=params), journal)["changed"]
    assert journal.get("m")["disks"] == [{**record["disks"][0], "shared": True}]
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
