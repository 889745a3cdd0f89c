# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""No task is delegated to a host before its connection variables mean for that what they mean on the host itself, which check_facts.yml sees to."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from ansible_collections.kvmfleet.compute.tests.unit.roles.tasks import FILES, ROLES, below, door, name_of, tasks_in, tasks_of

ROOT = ROLES.parent
COMMON = ROLES / "common/tasks"
ENTRY_POINTS = sorted(
    f"{path.parts[-3]}/{name}" for path in ROLES.glob("*/meta/argument_specs.yml") for name in yaml.safe_load(path.read_text())["argument_specs"]
)
FIRST = COMMON / "check_facts.yml"
SETTING = COMMON / "own_variables.yml"
# Runs on each host, which it delegates to itself; who delegates it to another one is an entry point that begins with FIRST.
OF_ITS_OWN_HOST = {"gather/main", "prepare_host/main", "prepare_host/look"}
THEMSELVES = {f"common/{path.stem}" for path in (FIRST, SETTING)}
# Opened in the middle of a move, which has begun with FIRST.
WITHIN_A_MOVE = {"gather/again", "settle/undo"}
# In later plays of a playbook whose first play has begun with FIRST.
IN_A_LATER_PLAY = {"fleet/move", "fleet/look", "fleet/drained", "fleet/restored"}


def delegates(task: dict[str, Any]) -> bool:
    return task.get("delegate_to", "localhost") != "localhost"


def reached_by(path: Path, task: dict[str, Any], seen: set[Path]) -> Iterator[dict[str, Any]]:
    """A task and all that it includes."""
    yield task
    for file in below(path, task):
        if file not in seen:
            seen.add(file)
            for inner in tasks_of(file):
                yield from reached_by(file, inner, seen)


def first_is_reached(path: Path, seen: set[Path]) -> bool:
    """Whether an entry point looks at the hosts before anything is delegated to them; one that hands over to another one does what that does."""
    for task in tasks_of(path):
        if below(path, task) == [FIRST]:
            assert "when" not in task
            return True
        if door(task) not in (None, ("common", "refuse")) and "when" not in task:
            return first_is_reached(below(path, task)[0], seen)
        assert not [inner["name"] for inner in reached_by(path, task, seen) if delegates(inner)]
    return False


@pytest.mark.parametrize("entry_point", [name for name in ENTRY_POINTS if name not in OF_ITS_OWN_HOST | WITHIN_A_MOVE | IN_A_LATER_PLAY | THEMSELVES])
def test_an_entry_point_delegates_nothing_before_it_knows_the_hosts(entry_point: str) -> None:
    role, name = entry_point.split("/")
    path = ROLES / role / "tasks" / f"{name}.yml"
    assert first_is_reached(path, set()) or role in ("awx", "common", "gather") or name in ("check", "history", "images")


@pytest.mark.parametrize("playbook", ["drain", "restore"])
def test_what_is_opened_in_a_later_play_is_opened_after_that(playbook: str) -> None:
    plays = [play for play in yaml.safe_load((ROOT / f"playbooks/{playbook}.yml").read_text()) if "hosts" in play]
    doors = ["/".join(door(task)) for play in plays for task in play["tasks"][0]["block"]]
    assert doors[0] == f"fleet/{playbook}"
    assert set(doors[1:]) <= IN_A_LATER_PLAY


def test_what_is_opened_within_a_move_is_opened_by_nothing_else() -> None:
    opened = [(name_of(path).partition("/")[0], "/".join(door(task))) for path in FILES for task in tasks_of(path) if door(task)]
    assert {role for role, name in opened if name in WITHIN_A_MOVE} == {"fleet", "migrate", "settle"}
    assert not [path for path in ROOT.glob("playbooks/*.yml") if any(f"tasks_from: {name.split('/')[1]}\n" in path.read_text() for name in WITHIN_A_MOVE)]


def test_they_are_known_before_anything_is_read_of_the_hosts() -> None:
    """Some variables of a host are read on another one."""
    plays = yaml.safe_load((ROOT / "playbooks/gather.yml").read_text())
    tasks = [(play["hosts"], task) for play in plays for task in tasks_in(play.get("tasks")) if "block" not in task]
    hosts, first = tasks[0]
    assert hosts.startswith("{{ 'localhost'")
    assert door(first) == ("common", SETTING.stem)


def test_tasks_are_delegated_in_no_other_role_and_no_playbook() -> None:
    """Which would have to begin likewise."""
    others = [*(path for path in FILES if name_of(path).partition("/")[0] in ("awx", "prepare_host", "resize")), *ROOT.glob("roles/*/handlers/*.yml")]
    plays = [play for path in ROOT.glob("playbooks/*.yml") for play in yaml.safe_load(path.read_text())]
    tasks = [*(task for path in others for task in tasks_of(path)), *(task for play in plays for task in tasks_in(play.get("tasks")))]
    assert len(tasks) > 20
    assert not [task["name"] for task in tasks if delegates(task)]


def test_what_they_mean_there_is_set_by_no_connection_to_the_host_and_shown_to_nobody() -> None:
    (task,) = tasks_of(SETTING)
    assert [task.get("when") for task in tasks_of(FIRST) if below(FIRST, task) == [SETTING]] == [None]
    assert "own_variables" in task["loop"]
    assert (task["vars"]["ansible_connection"], task["vars"]["ansible_become"]) == ("local", False)
    assert not [value for value in task["vars"].values() if "{{" in str(value)]
    assert task["no_log"] is True
    assert "cacheable" not in task["ansible.builtin.set_fact"]
    assert "when" not in task
