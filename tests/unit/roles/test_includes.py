# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a task file is given is what it gets: variables of an `include_tasks` go before those of every `import_tasks` below it, however near that is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ansible_collections.kvmfleet.compute.tests.unit.roles.tasks import DYNAMIC, FILES, ROLE, STATIC, below, name_of, tasks_of, told


def hidden(path: Path, given: dict[str, str], way: tuple[Path, ...] = ()) -> Iterator[str]:
    """Each variable that an import gives in vain.

    :param given: variable -> the include above that gives it; :param way: the files on the way here.
    """
    if path in way:
        return
    for task in tasks_of(path):
        kind = next((kind for kind in (STATIC, DYNAMIC, ROLE) if kind in task), None)
        if kind is None:
            continue
        names, where = task.get("vars") or {}, f"{path.name}, {task['name']}"
        if kind == STATIC:
            yield from (f"{where}: {name} is what {given[name]} gives" for name in names if name in given)
        for next_file in below(path, task):
            yield from hidden(next_file, given if kind == STATIC else {**given, **dict.fromkeys(names, where)}, (*way, path))


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_no_import_gives_what_an_include_above_it_gives_otherwise(path: Path) -> None:
    assert sorted(set(hidden(path, {}))) == []


def test_one_that_does_would_be_found(tmp_path: Path) -> None:
    tasks = tmp_path / "tasks"
    (tasks / "b").mkdir(parents=True)
    (tasks / "main.yml").write_text(f"- {{name: A, {DYNAMIC}: b/b.yml, vars: {{x: 1}}}}\n")
    (tasks / "b/b.yml").write_text(f"- name: B\n  block:\n    - {{name: C, {STATIC}: c.yml, vars: {{x: 2, y: 3}}}}\n")
    (tasks / "b/c.yml").write_text("- {name: D, ansible.builtin.debug: {}}\n")
    assert list(hidden(tasks / "main.yml", {})) == ["b.yml, C: x is what main.yml, A gives"]


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_a_file_that_is_named_is_there(path: Path) -> None:
    """One that is included is named from the tasks of its role: Ansible looks there first, so that no file beside the one that names it is taken for it."""
    for task in tasks_of(path):
        assert (STATIC in task or DYNAMIC in task) <= bool(below(path, task)), task["name"]
        assert [str(one) for one in below(path, task) if not one.is_file()] == [], task["name"]


def test_an_import_is_named_from_the_directory_of_its_own_file() -> None:
    """ansible-core 2.16 looks there first, and where it goes on to the role it fails of a path that it does not know."""
    imports = [(path, told(task)) for path in FILES for task in tasks_of(path) if STATIC in task]
    assert len(imports) > 15
    assert [f"{name_of(path)}: {named}" for path, named in imports if not (path.parent / named).is_file()] == []
