# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a task file is given is what it gets: variables of an `include_tasks` go before those of every `import_tasks` below it, however near that is."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from ansible_collections.kvmfleet.compute.tests.unit.roles.tasks import tasks_in

ROLES = Path(__file__).parents[3] / "roles"
FILES = sorted(ROLES.glob("*/tasks/*.yml"))
STATIC, DYNAMIC = "ansible.builtin.import_tasks", "ansible.builtin.include_tasks"


def hidden(path: Path, given: dict[str, str], way: tuple[Path, ...] = ()) -> Iterator[str]:
    """Each variable that an import gives in vain.

    :param given: variable -> the include above that gives it; :param way: the files on the way here.
    """
    if path in way:
        return
    for task in tasks_in(yaml.safe_load(path.read_text())):
        kind = next((kind for kind in (STATIC, DYNAMIC) if kind in task), None)
        if kind is None:
            continue
        names, where = task.get("vars") or {}, f"{path.name}, {task['name']}"
        if kind == STATIC:
            yield from (f"{where}: {name} is what {given[name]} gives" for name in names if name in given)
        told = task[kind] if isinstance(task[kind], str) else task[kind]["file"]
        for below in path.parent.glob(re.sub(r"\{\{.*?\}\}", "*", told)):
            yield from hidden(below, given if kind == STATIC else {**given, **dict.fromkeys(names, where)}, (*way, path))


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parts[-3]}/{path.name}")
def test_no_import_gives_what_an_include_above_it_gives_otherwise(path: Path) -> None:
    assert sorted(set(hidden(path, {}))) == []


def test_one_that_does_would_be_found(tmp_path: Path) -> None:
    (tmp_path / "main.yml").write_text(f"- {{name: A, {DYNAMIC}: b.yml, vars: {{x: 1}}}}\n")
    (tmp_path / "b.yml").write_text(f"- name: B\n  block:\n    - {{name: C, {STATIC}: c.yml, vars: {{x: 2, y: 3}}}}\n")
    (tmp_path / "c.yml").write_text("- {name: D, ansible.builtin.debug: {}}\n")
    assert list(hidden(tmp_path / "main.yml", {})) == ["b.yml, C: x is what main.yml, A gives"]
