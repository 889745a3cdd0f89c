# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Ansible evaluates the condition of an included file for all items of its loop before the first item runs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from ansible_collections.kvmfleet.compute.tests.unit.roles.tasks import DYNAMIC, FILES, STATIC, below, name_of, tasks_of, told


def set_in(path: Path) -> set[str]:
    """Variables that the tasks of a file set."""
    tasks = tasks_of(path)
    return {task["register"] for task in tasks if "register" in task} | {name for task in tasks for name in task.get("ansible.builtin.set_fact", {})}


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_no_loop_over_a_file_depends_on_what_the_file_sets(path):
    for task in tasks_of(path):
        for included in below(path, task) if DYNAMIC in task and "loop" in task else ():
            words = set(re.findall(r"\w+", str(task.get("when", ""))))
            assert not words & set_in(included), f"{task['name']}: put the condition into {included}"


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_a_task_that_is_skipped_has_a_host_to_be_delegated_to(path):
    """Ansible asks for the host before it looks at the condition."""
    for task in tasks_of(path):
        if "when" in task and "delegate_to" in task:
            words = re.findall(r"\w+", str(task["delegate_to"]))
            for where in (str(task["delegate_to"]), *(str(value) for name, value in task.get("vars", {}).items() if name in words)):
                assert not re.search(r"\[0\]|\| *(first|last)\b", where) or "default(" in where, f"{task['name']}: {where} may be empty"


def imported_under_a_condition(path, imported=False):
    """Every task that becomes one of a file by an import for which that file has a condition; Ansible asks each of them for its host."""

    def walk(document, conditional):
        for task in document or []:
            here = conditional or "when" in task
            if imported:
                yield task
            for imported_file in below(path, task) if STATIC in task else ():
                yield from imported_under_a_condition(imported_file, here)
            for part in ("block", "rescue", "always"):
                yield from walk(task.get(part), here)

    yield from walk(yaml.safe_load(path.read_text()), imported)


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_a_file_is_not_imported_under_a_condition_without_which_its_tasks_have_no_host(path):
    """In check mode nothing is claimed, so that there is no destination."""
    for task in imported_under_a_condition(path):
        where = str(task.get("delegate_to", ""))
        assert not re.search(r"__migrate_(destination|from\.host)\b", where) or "default(" in where, f"{path.stem} imports {task['name']}"


def files_below(path, seen):
    """The files that a file includes or imports, and those that they do."""
    for task in tasks_of(path):
        for each in below(path, task):
            if each not in seen:
                seen.add(each)
                files_below(each, seen)
    return seen


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_nothing_is_imported_below_a_file_whose_name_is_a_template(path):
    """Before ansible-core 2.19 that ends the run."""
    for task in tasks_of(path):
        for chosen in below(path, task) if DYNAMIC in task and "{{" in told(task) else ():
            for each in {chosen, *files_below(chosen, set())}:
                assert not [one["name"] for one in tasks_of(each) if STATIC in one], (task["name"], each.stem)
