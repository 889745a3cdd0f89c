# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""No task is delegated to a host before its connection variables mean for that what they mean on the host itself, which check_facts.yml sees to."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from ansible_collections.kvmfleet.compute.tests.unit.roles.tasks import tasks_in

ROOT = Path(__file__).parents[3]
TASKS = ROOT / "roles/migrate/tasks"
ENTRY_POINTS = sorted(yaml.safe_load((ROOT / "roles/migrate/meta/argument_specs.yml").read_text())["argument_specs"])
FIRST = "check_facts.yml"
SETTING = "own_variables.yml"
# Runs on each host, which it delegates to itself; who delegates it to another one is an entry point that begins with FIRST.
OF_ITS_OWN_HOST = "gather"


def tasks_of(path: Path) -> list[dict[str, Any]]:
    return list(tasks_in(yaml.safe_load(path.read_text())))


def delegates(task: dict[str, Any]) -> bool:
    return task.get("delegate_to", "localhost") != "localhost"


def file_of(task: dict[str, Any]) -> str | None:
    return task.get("ansible.builtin.include_tasks") or task.get("ansible.builtin.import_tasks")


def included(task: dict[str, Any]) -> list[Path]:
    """The files that a task may include; a template in the name stands for anything."""
    name = file_of(task)
    return sorted(TASKS.glob(re.sub(r"\{\{.*?\}\}", "*", name))) if name else []


def reached_by(task: dict[str, Any], seen: set[Path]) -> Iterator[dict[str, Any]]:
    """A task and all that it includes."""
    yield task
    for path in included(task):
        if path not in seen:
            seen.add(path)
            for inner in tasks_of(path):
                yield from reached_by(inner, seen)


@pytest.mark.parametrize("entry_point", [name for name in ENTRY_POINTS if name != OF_ITS_OWN_HOST])
def test_an_entry_point_delegates_nothing_before_it_knows_the_hosts(entry_point: str) -> None:
    seen: set[Path] = set()
    for task in tasks_of(TASKS / f"{entry_point}.yml"):
        if file_of(task) == FIRST:
            assert "when" not in task
            return
        assert not [inner["name"] for inner in reached_by(task, seen) if delegates(inner)]


def test_they_are_known_before_anything_is_read_of_the_hosts() -> None:
    """Some variables of a host are read on another one."""
    plays = yaml.safe_load((ROOT / "playbooks/gather.yml").read_text())
    tasks = [(play["hosts"], task) for play in plays for task in tasks_in(play.get("tasks")) if "block" not in task]
    hosts, first = tasks[0]
    assert hosts.startswith("{{ 'localhost'")
    assert first["ansible.builtin.include_role"]["tasks_from"] == Path(SETTING).stem


def test_tasks_are_delegated_in_no_other_role_and_no_playbook() -> None:
    """Which would have to begin likewise."""
    others = [path for path in (*ROOT.glob("roles/*/tasks/*.yml"), *ROOT.glob("roles/*/handlers/*.yml")) if path.parent != TASKS]
    plays = [play for path in ROOT.glob("playbooks/*.yml") for play in yaml.safe_load(path.read_text())]
    tasks = [*(task for path in others for task in tasks_of(path)), *(task for play in plays for task in tasks_in(play.get("tasks")))]
    assert len(tasks) > 20
    assert not [task["name"] for task in tasks if delegates(task)]


def test_what_they_mean_there_is_set_by_no_connection_to_the_host_and_shown_to_nobody() -> None:
    (task,) = tasks_of(TASKS / SETTING)
    assert [task.get("when") for task in tasks_of(TASKS / FIRST) if file_of(task) == SETTING] == [None]
    assert "own_variables" in task["loop"]
    assert (task["vars"]["ansible_connection"], task["vars"]["ansible_become"]) == ("local", False)
    assert not [value for value in task["vars"].values() if "{{" in str(value)]
    assert task["no_log"] is True
    assert "cacheable" not in task["ansible.builtin.set_fact"]
    assert "when" not in task
