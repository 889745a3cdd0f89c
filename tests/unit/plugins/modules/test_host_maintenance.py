# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The module host_maintenance as a host runs it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible_collections.kvmfleet.compute.plugins.module_utils._journal.state_dir import StateDir
from ansible_collections.kvmfleet.compute.tests.unit.plugins.modules.test_facts_modules import run_module
from ansible_collections.kvmfleet.compute.tests.unit.plugins.modules.test_operations_check_mode import content


def bring(tmp_path: Path, state: str, **more: Any) -> dict[str, Any]:
    asked = {"maintenance_uuid": "d-1", "owner": "run-1", "requested_by": {"user": "ann"}, "state_path": str(tmp_path / "state"), "uri": "test:///default"}
    return run_module("host_maintenance", state=state, **{**asked, **more})


def test_check_mode_tells_the_change_and_makes_none(tmp_path: Path) -> None:
    told = bring(tmp_path, "draining", reason="new memory", check=True)
    assert (told["changed"], told["maintenance"]["state"]) == (True, "draining")
    assert told["diff"] == {"before": '{\n "state": "in_service"\n}\n', "after": '{\n "reason": "new memory",\n "state": "draining"\n}\n'}
    assert not (tmp_path / "state").exists()
    bring(tmp_path, "draining", reason="new memory")
    before = content(tmp_path)
    assert bring(tmp_path, "paused", check=True)["changed"]
    assert content(tmp_path) == before


def test_a_second_run_changes_nothing(tmp_path: Path) -> None:
    assert [bring(tmp_path, "draining", reason="new memory")["changed"] for _again in range(2)] == [True, False]


def test_a_host_with_a_guest_is_not_called_evacuated_or_empty(tmp_path: Path) -> None:
    bring(tmp_path, "draining", reason="new memory")
    for check in (True, False):
        told = bring(tmp_path, "evacuated", check=check)
        assert (told["error_code"], told["details"]["guests"]) == ("not_evacuated", ["test"])
    assert bring(tmp_path, "evacuated", left=["test"])["maintenance"]["left"] == ["test"]
    assert bring(tmp_path, "empty")["error_code"] == "not_empty"
    assert StateDir(str(tmp_path / "state")).read("host", "maintenance")["state"] == "evacuated"  # type: ignore[index]


def test_facts_carry_the_record(tmp_path: Path) -> None:
    def record() -> Any:
        told = run_module("host_facts", host="kvm1", uri="test:///default", images_path=str(tmp_path), state_path=str(tmp_path / "state"))
        return told["ansible_facts"]["kvmfleet_host"]["maintenance"]

    assert record() is None
    bring(tmp_path, "draining", reason="new memory")
    assert (record()["state"], record()["reason"], record()["by"]) == ("draining", "new memory", "ann")
    assert "owner" not in record()


def test_the_other_run_is_told_after_the_rest_of_a_lease_that_nobody_renewed(tmp_path: Path) -> None:
    bring(tmp_path, "draining", reason="new memory", lease=1.0)
    assert bring(tmp_path, "draining", owner="run-2", maintenance_uuid="d-2")["maintenance"]["uuid"] == "d-1"
