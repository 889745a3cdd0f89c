# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The tasks of a task file and the files that they go on to, for tests that read them."""

from __future__ import annotations

import os.path
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

ROLES = Path(__file__).resolve().parents[3] / "roles"
FILES = sorted(ROLES.glob("*/tasks/**/*.yml"))
STATIC, DYNAMIC, ROLE = "ansible.builtin.import_tasks", "ansible.builtin.include_tasks", "ansible.builtin.include_role"
OURS = "kvmfleet.compute."


def tasks_in(document: Any) -> Iterator[dict[str, Any]]:
    """Every task of a list of them, those of its blocks included."""
    for task in document or []:
        yield task
        for part in ("block", "rescue", "always"):
            yield from tasks_in(task.get(part))


def tasks_of(path: Path) -> list[dict[str, Any]]:
    """Every task of a file."""
    return list(tasks_in(yaml.safe_load(path.read_text())))


def name_of(path: Path) -> str:
    """The role of a task file, and its name in that."""
    return str(path.relative_to(ROLES))


def place_of(path: Path) -> Path:
    """The directory from which a role names the files that it includes: its tasks/. Those that it imports are named from where they are."""
    return next(parent for parent in path.parents if parent.name == "tasks")


def told(task: dict[str, Any]) -> str:
    """The file that a task includes or imports, as it is named there; none is an empty text."""
    named = task.get(STATIC) or task.get(DYNAMIC) or ""
    return named if isinstance(named, str) else named["file"]


def door(task: dict[str, Any]) -> tuple[str, str] | None:
    """The role of this collection that a task includes, and the entry point."""
    included = task.get(ROLE) or {}
    name = str(included.get("name", ""))
    return (name[len(OURS) :], included.get("tasks_from", "main")) if name.startswith(OURS) else None


def below(path: Path, task: dict[str, Any]) -> list[Path]:
    """The files that a task of a file may go on to, those of other roles too; a template in a name stands for anything."""
    if told(task):
        named = re.sub(r"\{\{.*?\}\}", "*", told(task))
        start = path.parent if STATIC in task else place_of(path)
        return sorted(start.glob(named)) if "*" in named else [Path(os.path.normpath(start / named))]
    opened = door(task)
    return [ROLES / opened[0] / "tasks" / f"{opened[1]}.yml"] if opened else []
