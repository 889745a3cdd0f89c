# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Directories that modules are told."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from ansible_collections.kvmfleet.compute.plugins.module_utils._options import require_directories
from ansible_collections.kvmfleet.compute.plugins.module_utils._rules.errors import KvmfleetError

MODULES = sorted((Path(__file__).parents[4] / "plugins" / "modules").glob("[a-z]*.py"))


@pytest.mark.parametrize("wrong", ["/", "//", "/..", "d", "data/images", "", "."])
@pytest.mark.parametrize("option", ["image_directories", "images_path", "state_path", "disk_directories"])
def test_a_directory_that_is_relative_or_the_root_is_refused(option: str, wrong: str) -> None:
    value: Any = {"image_directories": ["/data", wrong], "disk_directories": {"fast": wrong}}.get(option, wrong)
    if option.endswith("path") and not wrong:
        return  # not given
    with pytest.raises(KvmfleetError, match=f"{option}: expected the absolute path") as caught:
        require_directories({"name": "web1", option: value})
    assert (caught.value.code, caught.value.details["option"]) == ("invalid_directory", option)


def test_directories_are_left_alone() -> None:
    require_directories({"image_directories": ["/data/images/", "/srv"], "images_path": "/srv", "state_path": None, "disk_directories": {}, "path": "x"})


AT_THE_CONTROLLER = ("channel_tunnel", "fleet_turn")
"""Their action plugins do the work, in a directory that the run has made for itself."""


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_every_option_that_is_a_directory_is_looked_at(path: Path) -> None:
    """A new one has to be added to what is looked at, and modules to what is run there."""
    text = path.read_text()
    documentation = re.search(r'DOCUMENTATION = r"""(.*?)"""', text, re.DOTALL)
    assert documentation
    for name, option in yaml.safe_load(documentation[1]).get("options", {}).items():
        if re.search(r"director(y|ies)$|images_path|state_path", name) and path.stem not in AT_THE_CONTROLLER:
            with pytest.raises(KvmfleetError, match=name):
                require_directories({name: ["d"] if option["type"] == "list" else {"x": "d"} if option["type"] == "dict" else "d"})
