# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The description of the execution environment, made into a build context by ansible-builder."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
DESCRIBED = ROOT / "examples/awx/execution-environment.yml"


def create(described: Path, context: Path) -> subprocess.CompletedProcess[str]:
    """What ansible-builder makes of a description."""
    command = ["ansible-builder", "create", "--file", str(described), "--context", str(context), "--output-filename", "Containerfile"]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The build context."""
    directory = tmp_path_factory.mktemp("context")
    made = create(DESCRIBED, directory)
    assert made.returncode == 0, made.stdout + made.stderr
    return directory


def pinned(name: str) -> str:
    """The version of a tool with which the other tests run."""
    found = re.search(rf"^{name}==(\S+)$", (ROOT / "tests/requirements.txt").read_text(encoding="utf-8"), re.MULTILINE)
    assert found
    return found[1]


def test_the_image_has_the_collection_in_its_own_version(context: Path) -> None:
    galaxy: dict[str, Any] = yaml.safe_load((ROOT / "galaxy.yml").read_text(encoding="utf-8"))
    asked = yaml.safe_load((context / "_build/requirements.yml").read_text(encoding="utf-8"))
    assert asked == {"collections": [{"name": "kvmfleet.compute", "version": galaxy["version"]}]}
    assert f":{galaxy['version']}\n" in DESCRIBED.read_text(encoding="utf-8")


def test_the_image_has_the_programs_that_the_tests_have(context: Path) -> None:
    containerfile = (context / "Containerfile").read_text(encoding="utf-8")
    for name in ("ansible-core", "ansible-runner"):
        assert f"{name}=={pinned(name)}" in containerfile
    assert (context / "_build/bindep.txt").read_text(encoding="utf-8").split() == ["openssh-clients", "[platform:rpm]"]
    assert not (context / "_build/requirements.txt").exists()  # no Python package


def test_a_misspelt_description_is_refused(tmp_path: Path) -> None:
    misspelt = tmp_path / "execution-environment.yml"
    misspelt.write_text(DESCRIBED.read_text(encoding="utf-8").replace("base_image:", "base_imag:"), encoding="utf-8")
    made = create(misspelt, tmp_path / "context")
    assert made.returncode != 0
    assert "base_imag" in made.stdout + made.stderr
