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

from ansible_collections.kvmfleet.compute.tests.unit.roles.tasks import ROLES, STATIC, below, name_of, tasks_of

FORGETS = "forget.yml"
SETS = "ansible.builtin.set_fact"
# What is no note about one guest.
LASTS = {
    "kvmfleet_host": "the facts of a host, which a task writes anew whenever they are read",
    "{{ __common_own.name }}": "connection variables of a host",
    "__settle_ended": "every operation of the run, for kvmfleet_migrations",
    "__settle_unsettled": "the operations that one run of open/main.yml could not end, which it begins with none of",
}
# Where a guest, or an operation of the journals, begins.
BEGINNINGS = {"migrate": ROLES / "migrate/tasks/main.yml", "settle": ROLES / "settle/tasks/open/one.yml"}
# Anything that a role has to forget, it or the shared one has noted.
BEHIND = {"migrate": ("__migrate_", "__common_"), "settle": ("__settle_", "__common_")}
# Written anew by the task that a settling begins with, and read by none before.
FIRST_WRITTEN = {"migrate": set(), "settle": {"__settle_decided", "__common_secret"}}


def reached_from(path: Path, seen: set[Path]) -> Iterator[dict[str, Any]]:
    """Every task that a file may run, but for those that forget."""
    if path in seen or path.name == FORGETS:
        return
    seen.add(path)
    for task in tasks_of(path):
        yield task
        for file in below(path, task):
            yield from reached_from(file, seen)


def noted_by(role: str) -> set[str]:
    tasks = list(reached_from(BEGINNINGS[role], set()))
    noted = {name for task in tasks for name in (*task.get(SETS, {}), *([task["register"]] if "register" in task else []))}
    return {name for name in noted - set(LASTS) if name.startswith(BEHIND[role])}


def forgets(role: str) -> Path:
    (path,) = (ROLES / role / "tasks").rglob(FORGETS)
    return path


def forgotten(role: str) -> set[str]:
    (task,) = yaml.safe_load(forgets(role).read_text())
    assert set(task) == {"name", SETS}
    return set(task[SETS])


@pytest.mark.parametrize("role", BEGINNINGS)
def test_whatever_an_operation_notes_is_forgotten_where_one_begins(role: str) -> None:
    assert sorted(noted_by(role) - forgotten(role)) == []


@pytest.mark.parametrize("role", BEGINNINGS)
def test_nothing_is_forgotten_that_nobody_notes(role: str) -> None:
    assert sorted(forgotten(role) - noted_by(role)) == []


@pytest.mark.parametrize("role", BEGINNINGS)
def test_to_forget_is_the_first_thing_done(role: str) -> None:
    first = next(task for task in tasks_of(BEGINNINGS[role]) if "block" not in task)
    assert STATIC in first
    assert below(BEGINNINGS[role], first) == [forgets(role)]


def test_no_other_role_notes_anything_about_a_guest_but_reads_it_at_once() -> None:
    """What is taken in as a role with a name of its own."""
    seen: set[Path] = set()
    for path in BEGINNINGS.values():
        list(reached_from(path, seen))
    assert {name_of(path).partition("/")[0] for path in seen} == {"common", "gather", "migrate", "settle"}


def test_an_operation_is_settled_in_the_middle_of_a_run_that_has_plans() -> None:
    """What it forgets is none of what a move reads after it."""
    assert {name for name in forgotten("settle") if not name.startswith("__settle_")} == {"__common_refusal"}
