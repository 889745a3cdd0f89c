# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the argument specifications say must be what the roles do: their doors, their options, the defaults of these."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.given.kinds import plain
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.given.table import INPUTS, NOTHING
from ansible_collections.kvmfleet.compute.tests.unit.roles.tasks import FILES, ROLES, name_of, tasks_of

NAMES = sorted(path.name for path in ROLES.iterdir())
SHARED = "common"
VARIABLES = sorted(ROLES.glob("*/vars/*.yml"))
PLAYBOOKS = sorted(ROLES.parent.glob("playbooks/*.yml"))


def load(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8")) if path.exists() else {}


def entry_points(role: str) -> dict[str, Any]:
    return dict(load(ROLES / role / "meta/argument_specs.yml")["argument_specs"])


def options(role: str) -> dict[str, Any]:
    return {name: option for entry_point in entry_points(role).values() for name, option in entry_point["options"].items()}


@pytest.mark.parametrize("role", NAMES)
def test_defaults_are_documented_as_they_are(role: str) -> None:
    defaults = load(ROLES / role / "defaults/main.yml")
    own = {name: option for name, option in options(role).items() if name.startswith(f"{role}_")}
    assert set(own) == set(defaults)
    for name, default in defaults.items():
        if default is None:  # the variable of the inventory that it falls back to is told in words
            assert "default" not in own[name], name
        elif not own[name].get("required"):
            assert own[name]["default"] == default, name


@pytest.mark.parametrize("role", [role for role in NAMES if role != "migrate"])
def test_an_option_that_roles_share_is_that_of_a_move(role: str) -> None:
    """By its name, and in all that is said of it."""
    shared = {name: option for name, option in options(role).items() if not name.startswith(f"{role}_")}
    assert shared == {name: options("migrate").get(name) for name in shared}


@pytest.mark.parametrize("role", NAMES)
def test_the_doors_of_a_role_are_what_lies_on_top_of_its_tasks(role: str) -> None:
    assert {path.stem for path in (ROLES / role / "tasks").glob("*.yml")} == set(entry_points(role))


@pytest.mark.parametrize("role", [role for role in NAMES if len(entry_points(role)) > 1])
def test_its_readme_lists_the_doors(role: str) -> None:
    rows = re.findall(r"^\| `(\w+)` \|", (ROLES / role / "README.md").read_text(), re.MULTILINE)
    assert sorted(rows) == sorted(entry_points(role))


@pytest.mark.parametrize("path", [*FILES, *VARIABLES, *PLAYBOOKS], ids=lambda path: str(path.relative_to(ROLES.parent)))
def test_nobody_uses_the_private_names_of_another_role(path: Path) -> None:
    """But for those of the role that they share."""
    role = name_of(path).partition("/")[0] if path.is_relative_to(ROLES) else SHARED
    mine = tuple(f"__{name}_" for name in (role, SHARED))
    known = tuple(f"__{name}_" for name in NAMES)
    assert sorted({name for name in re.findall(r"\b__\w+", path.read_text()) if name.startswith(known) and not name.startswith(mine)}) == []


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_files_are_taken_from_no_role_but_the_shared_one_and_by_those_that_depend_on_it(path: Path) -> None:
    role = name_of(path).partition("/")[0]
    others = set(re.findall(r"_tasks: \.\./\.\./(\w+)/tasks/", path.read_text()))
    assert others <= {SHARED}
    assert not others or load(ROLES / role / "meta/main.yml")["dependencies"] == [{"role": f"kvmfleet.compute.{SHARED}"}]


# Modules.

GIVEN = re.compile(r"\{\{ __(\w+?)_given_(\w+)(?: \| default\(omit, true\))? \}\}")
# What a role asks of a module that does less by itself, and why.
OTHERWISE = {
    ("destination_copy", "agent_timeout"): "a copy that is started by itself is asked nothing",
    ("destination_copy", "keep_partial"): "nobody goes on with what somebody else has begun by hand",
    ("destination_copy", "on_shutdown_timeout"): "a revert throws the disks away, so cutting the power loses nothing more",
    ("resize_in_place", "on_shutdown_timeout"): "likewise",
    ("claim", "slot_timeout"): "a module by itself does not wait",
    ("migration", "slot_timeout"): "likewise",
    ("migration", "wait"): "somebody waits at a prompt for it",
}


def module_options(name: str) -> dict[str, Any]:
    """The documented options of a module of this collection, those of its fragments too."""
    plugins = ROLES.parent / "plugins"
    text = _assigned(plugins / "modules" / f"{name}.py", "DOCUMENTATION")
    documented = yaml.safe_load(text)
    found = dict(documented.get("options") or {})
    for fragment in documented.get("extends_documentation_fragment") or ():
        file, _dot, part = fragment.removeprefix("kvmfleet.compute.").partition(".")
        path = plugins / "doc_fragments" / f"{file}.py"
        if path.exists():
            found.update(yaml.safe_load(_assigned(path, part.upper() or "DOCUMENTATION")).get("options") or {})
    return found


def _assigned(path: Path, name: str) -> str:
    """The text that a Python file assigns to a name."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id == name:
            return str(ast.literal_eval(node.value))
    raise AssertionError(f"{path} has no {name}")


def handed_on() -> Iterator[tuple[str, str, str, Any]]:
    """Each option that a role hands on to a module as it is: the argument of the module, the module, the option of the role, and its default."""
    for path in FILES:
        for task in tasks_of(path):
            groups = [*task.items(), *(task.get("module_defaults") or {}).items()]
            for module, arguments in groups:
                if not module.startswith("kvmfleet.compute.") or not isinstance(arguments, dict):
                    continue
                for argument, value in arguments.items():
                    given = GIVEN.fullmatch(str(value))
                    named = [f"{role}_{given[2]}" for role in (given[1], "migrate")] if given else []
                    option = next((name for name in named if name in INPUTS), None)
                    if option:
                        yield argument, module, option, plain(INPUTS[option].default)


def test_a_module_does_by_itself_what_a_role_asks_of_it_unless_told_otherwise() -> None:
    """Of options that both have a default for."""
    compared, others = 0, []
    for argument, module, option, default in handed_on():
        module = module.rpartition(".")[2]
        known = module_options(module)
        assert argument in known, (module, argument)
        if default != NOTHING and "default" in known[argument] and (module, argument) not in OTHERWISE:
            compared += 1
            by_itself = plain(INPUTS[option].read(option, known[argument]["default"]))
            others += [] if by_itself == default else [f"{module}.{argument}: {by_itself!r}, and {option}: {default!r}"]
    assert sorted(set(others)) == []
    assert compared > 20
