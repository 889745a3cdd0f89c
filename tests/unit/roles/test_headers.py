# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A task file that is no entry point begins with what it takes (`# in:`) and what it leaves to others (`# out:`), as its tasks do.

It takes what neither itself nor a file of variables says: a fact of another file, or a variable of whoever includes it. With KVMFLEET_WRITE_HEADERS=1 the
headers are written as they have to be.
"""

from __future__ import annotations

import os
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from ansible_collections.kvmfleet.compute.tests.unit.roles.tasks import FILES, ROLES, name_of, place_of, tasks_of

NAME = re.compile(r"\b__[a-z]\w+")
SETS = "ansible.builtin.set_fact"
INTERNAL = [path for path in FILES if path.parent != place_of(path) and path.name != "forget.yml"]
KNOWN = {name for path in ROLES.glob("*/vars/main.yml") for name in yaml.safe_load(path.read_text())}
IN_VARIABLES = set(NAME.findall("\n".join(path.read_text() for path in ROLES.glob("*/vars/main.yml"))))
WIDTH = 160
# Without comments.
TEXTS = {path: re.sub(r"(^|\s)#.*", "", path.read_text()) for path in FILES}
MENTIONED = {path: set(NAME.findall(text)) for path, text in TEXTS.items() if path.name != "forget.yml"}


def set_in(tasks: list[dict[str, Any]]) -> set[str]:
    """The facts and results of tasks."""
    return {name for task in tasks for name in (*task.get(SETS, {}), *([task["register"]] if "register" in task else []))}


def within(tasks: list[dict[str, Any]]) -> Iterator[str]:
    """The names that tasks have for themselves."""
    for task in tasks:
        yield from task.get("vars") or {}
        yield from filter(None, [(task.get("loop_control") or {}).get("loop_var")])


def header(path: Path) -> str:
    """The header that a file has to have; without a line for what there is nothing of."""
    tasks = tasks_of(path)
    made = {name for name in set_in(tasks) if NAME.fullmatch(name)}
    others = IN_VARIABLES.union(*(names for other, names in MENTIONED.items() if other != path))
    takes = MENTIONED[path] - KNOWN - made - set(within(tasks))
    leaves = made & others
    lines = [f"# {word}: {', '.join(sorted(names))}" for word, names in (("in", takes), ("out", leaves)) if names]
    return "".join(f"{part}\n" for line in lines for part in textwrap.wrap(line, WIDTH, subsequent_indent="#   "))


@pytest.mark.parametrize("path", INTERNAL, ids=name_of)
def test_a_file_says_what_it_takes_and_what_it_leaves(path: Path) -> None:
    text = path.read_text()
    written = re.match(r"---\n((?:# (?:in|out): .*\n(?:#   .*\n)*)*)", text)
    assert written
    if os.environ.get("KVMFLEET_WRITE_HEADERS"):
        path.write_text(f"---\n{header(path)}{text[written.end() :]}")
    else:
        assert written[1] == header(path)


def test_what_a_file_takes_is_left_or_given_by_another_one() -> None:
    given = {name for path in FILES for name in (*set_in(tasks_of(path)), *within(tasks_of(path)))}
    given |= set(NAME.findall("\n".join(path.read_text() for path in ROLES.parent.glob("playbooks/*.yml"))))
    taken = {name for path in INTERNAL for line in re.findall(r"^# in: .*\n(?:#   .*\n)*", path.read_text(), re.MULTILINE) for name in NAME.findall(line)}
    assert sorted(taken - given) == []
