# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is kept of a broken copy: for the next operation of its instance, for a time, and never at the cost of anything else."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ansible_collections.kvmfleet.compute.plugins.module_utils._journal.records import Journal
from ansible_collections.kvmfleet.compute.plugins.module_utils._storage import incoming as _incoming, leftovers as _leftovers

MIB = 1024 * 1024


@pytest.fixture
def record(images: Path) -> dict[str, Any]:
    disks = [
        {"target": "vda", "kind": "disk", "path": f"{images}/web.qcow2", "allocated_bytes": 20 * MIB},
        {"target": "vdb", "kind": "disk", "path": f"{images}/web-b.qcow2", "allocated_bytes": MIB},
    ]
    more = {"owner": "o", "role": "destination", "source_host": "kvm1", "destination_host": "kvm2", "status": "migrating", "step": "receiving", "nvram": None}
    return {"uuid": "u1", "instance_uuid": "i1", "instance_name": "web", "disks": disks, **more}


def arrive(record: dict[str, Any], number: int, size: int) -> Path:
    part = Path(_incoming.part_path(record, record["disks"][number]["path"]))
    part.write_bytes(b"x" * size)
    return part


def on(images: Path) -> list[str]:
    return sorted(os.listdir(images))


def test_the_next_operation_of_the_instance_takes_up_what_is_worth_it(state: Any, images: Path, record: dict[str, Any]) -> None:
    arrive(record, 0, 17 * MIB)
    arrive(record, 1, MIB)
    _leftovers.keep(state, record, 60)
    assert on(images) == ["web-b.qcow2.u1.part", "web.qcow2.i1.kept"]
    (listed,) = _leftovers.listed(state)
    assert (listed["instance_name"], listed["bytes"], listed["files"]) == ("web", 17 * MIB, [f"{images}/web.qcow2.i1.kept"])
    _leftovers.adopt(state, {**record, "uuid": "u2"})
    assert on(images) == ["web-b.qcow2.u1.part", "web.qcow2.u2.part"]
    assert _leftovers.listed(state) == []


@pytest.mark.parametrize(("step", "seconds"), [("defining", 60), ("finished", 60), ("receiving", 0)])
def test_a_complete_copy_is_not_kept_nor_any_without_leave(state: Any, images: Path, record: dict[str, Any], step: str, seconds: float) -> None:
    arrive(record, 0, 17 * MIB)
    _leftovers.keep(state, {**record, "step": step}, seconds)
    assert on(images) == ["web.qcow2.u1.part"]


def test_what_is_kept_has_its_time(state: Any, images: Path, record: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    arrive(record, 0, 17 * MIB)
    _leftovers.keep(state, record, 60)
    assert _leftovers.expired(state) == []
    now = _leftovers.time.time()
    monkeypatch.setattr(_leftovers.time, "time", lambda: now + 61)
    assert _leftovers.expired(state) == ["i1"]


def test_a_newer_copy_replaces_an_older_one_and_another_place_ends_it(state: Any, images: Path, record: dict[str, Any]) -> None:
    arrive(record, 0, 17 * MIB)
    _leftovers.keep(state, record, 60)
    later = {**record, "uuid": "u2"}
    arrive(later, 0, 18 * MIB)
    _leftovers.keep(state, later, 60)
    assert [one["bytes"] for one in _leftovers.listed(state)] == [18 * MIB]
    _leftovers.adopt(state, {**record, "uuid": "u3", "disks": [{**record["disks"][0], "path": f"{images}/elsewhere/web.qcow2"}]})
    assert on(images) == []


def test_it_counts_as_written_for_its_instance_and_as_free_for_others(
    state: Any, images: Path, record: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    arrive(record, 0, 17 * MIB)
    _leftovers.keep(state, record, 60)
    assert _leftovers.bytes_on(state, os.stat(images).st_dev) == 17 * MIB
    monkeypatch.setattr(os, "statvfs", lambda path: SimpleNamespace(f_bavail=4 * MIB, f_frsize=1, f_blocks=40 * MIB))
    assert _incoming.shortages(Journal(state), {**record, "uuid": "u2"}) == []
    (short,) = _incoming.shortages(Journal(state), {**record, "uuid": "u2", "instance_uuid": "i2"})
    assert short.need == 21 * MIB
    assert not _leftovers.make_room(state, but="i1")
    assert _leftovers.make_room(state, but="i2")
    assert on(images) == []


def test_on_a_full_disk_it_makes_way_for_the_guests_there(state: Any, images: Path, record: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    size, used_by_others = 100 * MIB, 60 * MIB

    def statvfs(path: str) -> Any:
        return SimpleNamespace(f_bavail=size - used_by_others - os.stat(path).st_blocks * 512, f_frsize=1, f_blocks=size)

    monkeypatch.setattr(os, "statvfs", statvfs)
    arrive(record, 0, 40 * MIB)
    _leftovers.keep(state, record, 60)
    (listed,) = _leftovers.listed(state)
    assert 20 * MIB < listed["bytes"] <= 35 * MIB
    used_by_others = 100 * MIB
    _leftovers.give_back(listed["files"][0])
    assert os.stat(listed["files"][0]).st_blocks == 0
