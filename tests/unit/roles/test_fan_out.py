# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plays that move many guests. What Ansible offers besides would let guests wait while they are down, or end the run without a report."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from ansible_collections.kvmfleet.compute.tests.unit.roles.tasks import FILES, ROLES, door, name_of, tasks_of

ROOT = ROLES.parent
PLAYBOOKS = {name: yaml.safe_load((ROOT / f"playbooks/{name}.yml").read_text()) for name in ("drain", "restore")}
OF_THE_CONTROLLER = {"ansible_connection", "ansible_python_interpreter"}


def plays(name: str, entry_point: str) -> list[dict[str, Any]]:
    return [play for play in PLAYBOOKS[name] if any(door(task) == ("fleet", entry_point) for each in play.get("tasks", []) for task in each.get("block", []))]


@pytest.mark.parametrize("name", PLAYBOOKS)
def test_a_guest_that_was_begun_is_never_left_for_another_one(name: str) -> None:
    """With free, or a throttle, Ansible begins the next guest while this one waits for a process, sealed or not."""
    found = plays(name, "move")
    assert found
    for play in found:
        assert (play["strategy"], play["order"]) == ("ansible.builtin.host_pinned", "inventory")
        assert not {"serial", "throttle", "any_errors_fatal", "max_fail_percentage"} & set(play)


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_no_task_has_a_throttle_or_is_run_once(path: Any) -> None:
    """Neither means in such a play what it says."""
    if not name_of(path).startswith("common/"):
        assert [task["name"] for task in tasks_of(path) if {"throttle", "run_once"} & set(task)] == []


@pytest.mark.parametrize("name", PLAYBOOKS)
def test_the_report_comes_though_every_guest_has_failed(name: str) -> None:
    """Ansible ends a playbook of which a play has lost all of its hosts, so localhost is in each, and does nothing there."""
    assert all("localhost" in play["hosts"] for play in plays(name, "move"))
    first = tasks_of(ROLES / "fleet/tasks/move.yml")[0]
    assert (first["ansible.builtin.meta"], first["when"]) == ("end_host", "kvmfleet_move is not defined")
    (prepared,) = [task for task in tasks_of(ROLES / "fleet/tasks/moves/prepare.yml") if "kvmfleet_to_move" in task.get("ansible.builtin.set_fact", {})]
    assert "'localhost'" in prepared["ansible.builtin.set_fact"]["kvmfleet_to_move"]


def test_a_drain_looks_for_guests_that_have_come_at_most_twice_more() -> None:
    assert len(plays("drain", "move")) == len(plays("drain", "look")) == 3
    entries = [task for task in tasks_of(ROLES / "fleet/tasks/moves/look.yml") if "drain/again.yml" in str(task.get("ansible.builtin.include_tasks"))]
    assert "__fleet_passes | int < 3" in entries[0]["when"]


def test_a_host_that_stands_for_a_move_gets_nothing_from_the_inventory() -> None:
    """Group variables do not reach it where a job of AWX runs, and its name says nothing of the guest."""
    (made,) = [task["ansible.builtin.add_host"] for task in tasks_of(ROLES / "fleet/tasks/moves/prepare.yml") if "ansible.builtin.add_host" in task]
    assert OF_THE_CONTROLLER | {"kvmfleet_move", "kvmfleet_move_directory", "kvmfleet_move_part_of"} <= set(made)
    assert made["ansible_connection"] == "local"
