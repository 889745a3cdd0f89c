# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the argument specifications say must be what the defaults of the roles do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

ROLES = sorted(Path(__file__).resolve().parents[3].glob("roles/*"))


def load(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_defaults_are_documented_as_they_are(role: Path) -> None:
    defaults = load(role / "defaults/main.yml")
    entry_points = load(role / "meta/argument_specs.yml")["argument_specs"].values()
    options = {name: option for entry_point in entry_points for name, option in entry_point["options"].items()}
    assert set(options) == set(defaults)
    for name, default in defaults.items():
        if default is None:  # the variable of the inventory that it falls back to is told in words
            assert "default" not in options[name], name
        elif not options[name].get("required"):
            assert options[name]["default"] == default, name


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_entry_points_exist(role: Path) -> None:
    for entry_point in load(role / "meta/argument_specs.yml")["argument_specs"]:
        assert (role / "tasks" / f"{entry_point}.yml").is_file()
