# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a host forgets: only what has ended, is old enough, and what no lost host may need; and a lock file goes only while nobody holds it."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.kvmfleet.compute.plugins.module_utils._journal.records import CLOSED, TRANSITIONS
from ansible_collections.kvmfleet.compute.plugins.module_utils._journal.retention import DAY, prune
from ansible_collections.kvmfleet.compute.plugins.module_utils._journal.state_dir import StateDir
from ansible_collections.kvmfleet.compute.plugins.module_utils._rules.errors import KvmfleetError

LOST = {"lost_host": "kvm1", "at": 1.0}


@pytest.fixture
def state(tmp_path: Path) -> StateDir:
    return StateDir(str(tmp_path / "state"))


def write(state: StateDir, uuid: str, status: str = "confirmed", days: float = 100, **more: Any) -> None:
    state.write("migrations", uuid, {"uuid": uuid, "status": status, "updated_at": time.time() - days * DAY, **more})


def left(state: StateDir) -> list[str]:
    return [record["uuid"] for record in state.read_all("migrations")]


def age_lock(state: StateDir, name: str, days: float = 100) -> str:
    with state.lock(name):
        path = state.file("locks", name, ".lock")
    os.utime(path, (0, time.time() - days * DAY))
    return path


@pytest.mark.parametrize("status", sorted(TRANSITIONS))
def test_only_what_has_ended_is_forgotten(state: StateDir, status: str) -> None:
    write(state, "m-1", status)
    assert prune(state, 90)["records"] == (["m-1"] if status in CLOSED else [])
    assert left(state) == ([] if status in CLOSED else ["m-1"])


@pytest.mark.parametrize(("days", "gone"), [(0, []), (-1, []), (90, ["old"]), (101, []), (0.5, ["new", "old"])])
def test_by_age(state: StateDir, days: float, gone: list[str]) -> None:
    write(state, "old")
    write(state, "new", days=1)
    assert prune(state, days, dry_run=True)["records"] == gone
    assert left(state) == ["new", "old"]
    assert prune(state, days)["records"] == gone
    assert left(state) == [uuid for uuid in ("new", "old") if uuid not in gone]


def test_what_a_lost_host_may_need_is_kept_until_it_was_seen_clean(state: StateDir) -> None:
    write(state, "waits", forced=LOST)
    write(state, "seen", forced={**LOST, "released_at": 2.0})
    assert prune(state, 90)["records"] == ["seen"]
    assert left(state) == ["waits"]


def test_a_record_that_somebody_works_on_is_left_for_the_next_time(state: StateDir) -> None:
    write(state, "m-1")
    with state.lock("migration-m-1"):
        assert prune(state, 90)["records"] == []
    assert prune(state, 90)["records"] == ["m-1"]


def test_lock_files_that_nobody_uses(state: StateDir) -> None:
    old, held = age_lock(state, "migration-m-1"), age_lock(state, "migration-m-2")
    fresh = age_lock(state, "admission", days=1)
    with state.lock("migration-m-2"):
        os.utime(held, (0, time.time() - 100 * DAY))
        assert prune(state, 90, dry_run=True)["locks"] == ["migration-m-1", "migration-m-2"]
        assert prune(state, 90)["locks"] == ["migration-m-1"]
    assert [os.path.exists(path) for path in (old, held, fresh)] == [False, True, True]


def test_to_hold_a_lock_is_to_use_it(state: StateDir) -> None:
    path = age_lock(state, "admission")
    with state.lock("admission"):
        pass
    assert prune(state, 90)["locks"] == []
    assert os.path.exists(path)


def test_nothing_to_forget_where_there_is_no_journal(state: StateDir) -> None:
    assert prune(state, 90) == {"records": [], "locks": []}
    assert not os.path.exists(state.path)


def test_a_lock_is_exclusive_while_its_file_is_being_removed(state: StateDir) -> None:
    """Many threads take the same lock, and its file is removed as often as possible: no two are ever inside."""
    inside, most, taken = 0, 0, 0
    until = time.monotonic() + 1.0

    def use() -> None:
        nonlocal inside, most, taken
        while time.monotonic() < until:
            with state.lock("shared", timeout=10):
                inside += 1
                most = max(most, inside)
                taken += 1
                inside -= 1

    def remove() -> None:
        while time.monotonic() < until:
            state.remove_unused_locks(time.time() + 1000)

    threads = [threading.Thread(target=work) for work in (use, use, use, remove, remove)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (most, taken > 3) == (1, True)


def test_a_held_lock_is_still_waited_for_in_vain(state: StateDir) -> None:
    with state.lock("admission"), pytest.raises(KvmfleetError) as caught, state.lock("admission", timeout=0.1):
        pass
    assert caught.value.code == "locked"
