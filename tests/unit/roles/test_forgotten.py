# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a task notes about one guest is forgotten before the next guest of the same play: what Ansible sets or registers lives as long as the run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from ansible_collections.kvmfleet.compute.tests.unit.roles.tasks import tasks_in

TASKS = Path(__file__).parents[3] / "roles/migrate/tasks"
FORGET = "forget.yml"
SETS = "ansible.builtin.set_fact"
INCLUDES = ("ansible.builtin.include_tasks", "ansible.builtin.import_tasks")
# Which files an include with a template in its name may mean.
CHOSEN = {"apply_{{ __migrate_decision.action }}.yml": tuple(path.name for path in TASKS.glob("apply_*.yml"))}
# What is no note about one guest.
LASTS = {
    "kvmfleet_host": "the facts of a host, which a task writes anew whenever they are read",
    "{{ __migrate_own.name }}": "connection variables of a host",
    "__migrate_ended": "every operation of the run, for kvmfleet_migrations",
    "__migrate_unsettled": "the operations that one run of settle.yml could not end, which it begins with none of",
}
# Where a guest, or an operation of the journals, begins; and the end of the name of the task that forgets there.
BEGINNINGS = {"main.yml": "its move", "settle_one.yml": "is settled"}


def reached_from(name: str, seen: set[str]) -> Iterator[dict[str, Any]]:
    """Every task that a file may run, but for those that forget."""
    if name in seen or name == FORGET:
        return
    seen.add(name)
    for task in tasks_in(yaml.safe_load((TASKS / name).read_text())):
        yield task
        for included in (task[word] for word in INCLUDES if word in task):
            for file in CHOSEN.get(included, (included,)):
                yield from reached_from(file, seen)


def noted_by(name: str) -> set[str]:
    tasks = list(reached_from(name, set()))
    return {noted for task in tasks for noted in (*task.get(SETS, {}), *([task["register"]] if "register" in task else []))} - set(LASTS)


def forgotten(ending: str) -> set[str]:
    return {name for task in yaml.safe_load((TASKS / FORGET).read_text()) if task["name"].endswith(ending) for name in task[SETS]}


@pytest.mark.parametrize("name", BEGINNINGS)
def test_whatever_an_operation_notes_is_forgotten_where_one_begins(name: str) -> None:
    assert sorted(noted_by(name) - forgotten(BEGINNINGS[name])) == []


def test_nothing_is_forgotten_that_nobody_notes() -> None:
    assert sorted(forgotten("") - noted_by("main.yml")) == []


@pytest.mark.parametrize("name", BEGINNINGS)
def test_to_forget_is_the_first_thing_done(name: str) -> None:
    first = next(task for task in tasks_in(yaml.safe_load((TASKS / name).read_text())) if "block" not in task)
    assert first["ansible.builtin.import_tasks"] == FORGET


def test_an_operation_is_settled_in_the_middle_of_a_run_that_has_plans() -> None:
    """What it forgets is none of what a move reads after it."""
    settled, move = yaml.safe_load((TASKS / FORGET).read_text())
    assert set(settled["ansible.builtin.set_fact"]) < set(move["ansible.builtin.set_fact"])
    assert (settled["when"], move["when"]) == ("__migrate_settles | default(false)", "not __migrate_settles | default(false)")
