# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the modules do on the host that is left, and on one that comes back after it was given up as lost."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.kvmfleet.compute.plugins.module_utils._journal.records import Journal
from ansible_collections.kvmfleet.compute.plugins.module_utils._journal.state_dir import StateDir
from ansible_collections.kvmfleet.compute.tests.unit.plugins.modules.test_facts_modules import run_module

UUID = "11111111-2222-3333-4444-555555555555"


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(StateDir(str(tmp_path / "state")))


def begin(journal: Journal, role: str, *statuses: tuple[str, str], **changes: Any) -> None:
    parties = {"source_host": "kvm1", "destination_host": "kvm2", "instance_uuid": UUID, "instance_name": "web1", "was_running": True}
    record = journal.begin({"uuid": "m-1", "owner": "run-1", "role": role, "disks": [], "nvram": None, **parties, **changes})
    for status, step in statuses:
        record = journal.update(record, status=status, step=step)


def call(journal: Journal, module: str, **arguments: Any) -> dict[str, Any]:
    return run_module(module, migration_uuid="m-1", owner="run-1", state_path=journal.state.path, **arguments)


def test_a_returned_source_that_had_not_noted_the_end_removes_its_copy(journal: Journal) -> None:
    begin(journal, "source", ("migrating", "sealed"))
    assert call(journal, "source_copy", state="absent", uri="test:///default")["changed"] is True
    assert [entry["status"] for entry in journal.get("m-1")["history"]][-3:] == ["finished", "confirming", "confirmed"]


@pytest.mark.parametrize("status", ["finished", "confirming"])
def test_a_returned_destination_gives_way_whatever_it_was_about_to_do(journal: Journal, status: str) -> None:
    begin(journal, "destination", ("migrating", "defining"), ("finished", "finished"), *([(status, status)] if status != "finished" else []))
    gone = {"state": "absent", "discard_started": True, "error": "not read"}
    assert call(journal, "destination_copy", **gone, uri="test:///default")["changed"] is True
    assert journal.get("m-1")["status"] == "reverted"


@pytest.mark.parametrize("module", ["destination_copy", "resize_in_place"])
def test_what_was_finished_after_it_had_been_decided_to_go_back_is_not_undone(journal: Journal, module: str) -> None:
    """A module that goes on when its run has lost the host: the guest runs, and may have written."""
    begin(journal, "in_place" if module == "resize_in_place" else "destination", ("migrating", "defining"), ("finished", "finished"))
    back = {"state": "restored", "interrupted": True} if module == "resize_in_place" else {"state": "absent"}
    failed = call(journal, module, **back, uri="test:///default")
    assert (failed["failed"], failed["error_code"]) == (True, "guest_has_run")
    assert "Confirm it, or revert it" in failed["msg"]
    assert journal.get("m-1")["status"] == "finished"


def test_what_is_done_without_a_host_is_noted_and_released_once(journal: Journal) -> None:
    begin(journal, "destination", ("migrating", "defining"), ("finished", "finished"), ("confirming", "confirming"))
    call(journal, "destination_copy", state="confirmed", lost_host="kvm1", uri="test:///default")
    assert journal.get("m-1")["forced"]["lost_host"] == "kvm1"
    assert run_module("migration", check=True, state="released", migration_uuid="m-1", owner="any", state_path=journal.state.path)["changed"] is True
    assert [call(journal, "migration", state=state)["changed"] for state in ("released", "released")] == [True, False]


def test_the_end_of_an_operation_lets_go_of_older_ones(journal: Journal) -> None:
    begin(journal, "source", ("migrating", "sealed"))
    for name, days in (("old", 100), ("new", 1)):
        journal.state.write("migrations", name, {"uuid": name, "status": "confirmed", "updated_at": time.time() - days * 86400, "created_at": 0})
    call(journal, "source_copy", state="absent", uri="test:///default")
    assert [record["uuid"] for record in journal.all()] == ["new", "m-1"]


def test_pruned_says_in_check_mode_what_would_go(journal: Journal) -> None:
    journal.state.write("migrations", "old", {"uuid": "old", "status": "error", "updated_at": 0.0, "created_at": 0.0})
    arguments = {"state": "pruned", "state_path": journal.state.path}
    would = run_module("migration", check=True, **arguments)
    assert (would["changed"], would["pruned"], journal.find("old") is None) == (True, {"records": ["old"], "locks": []}, False)
    assert run_module("migration", **arguments, history_days=0)["changed"] is False
    done = run_module("migration", **arguments)
    assert (done["changed"], done["diff"], journal.find("old")) == (True, {"before": "migrations/old\n", "after": ""}, None)
    assert run_module("migration", **arguments)["changed"] is False


def test_a_destination_that_was_restarted_starts_nothing(journal: Journal) -> None:
    begin(journal, "destination", ("migrating", "defining"))
    journal.state.write("migrations", "m-1", dict(journal.get("m-1"), boot_id="earlier"))
    assert call(journal, "destination_copy", state="started", uri="test:///default")["error_code"] == "host_restarted"
