# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the argument specifications say must be what the roles do: their doors, their options, the defaults of these."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from ansible_collections.kvmfleet.compute.tests.unit.roles.tasks import FILES, ROLES, name_of

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
    role = name_of(path).split("/")[0] if path.is_relative_to(ROLES) else SHARED
    mine = tuple(f"__{name}_" for name in (role, SHARED))
    known = tuple(f"__{name}_" for name in NAMES)
    assert sorted({name for name in re.findall(r"\b__\w+", path.read_text()) if name.startswith(known) and not name.startswith(mine)}) == []


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_files_are_taken_from_no_role_but_the_shared_one_and_by_those_that_depend_on_it(path: Path) -> None:
    role = name_of(path).split("/")[0]
    others = set(re.findall(r"_tasks: \.\./\.\./(\w+)/tasks/", path.read_text()))
    assert others <= {SHARED}
    assert not others or load(ROLES / role / "meta/main.yml")["dependencies"] == [{"role": f"kvmfleet.compute.{SHARED}"}]
