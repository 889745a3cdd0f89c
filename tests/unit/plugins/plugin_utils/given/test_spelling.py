# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A misspelt name is told from a name of somebody's own."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.given import spelling, table

ROOT = Path(__file__).resolve().parents[5]


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("flavour", "flavor"),
        ("Flavor", "flavor"),
        ("target_hots", "target_host"),
        ("instnace", "instance"),
        ("allow_downszie", "allow_downsize"),
        ("kvmfleet_maintenence", "kvmfleet_maintenance"),
        ("kvmfleet_ram_alocation_ratio", "kvmfleet_ram_allocation_ratio"),
        ("migrate_shutdown_timout", "migrate_shutdown_timeout"),
    ],
)
def test_a_slip_of_the_pen_is_named_with_the_right_name(name: str, meant: str) -> None:
    (sentence,) = spelling.misspelt([name])
    assert sentence.startswith(f"{name}: ")
    assert f"Did you mean {meant}?" in sentence


@pytest.mark.parametrize("name", ["zones", "flavors", "region", "awx_job_id", "tower_user_name", "ansible_user", "reason_code", "x", "kvmfleet_team"])
def test_what_is_somebodys_own_is_left_alone(name: str) -> None:
    assert list(spelling.misspelt([name])) == []


def test_what_is_given_beside_its_right_spelling_is_somebodys_own() -> None:
    assert list(spelling.misspelt(["flavour", "flavor"])) == []


def test_nothing_that_is_read_or_handed_on_is_refused() -> None:
    assert list(spelling.misspelt([*table.WORDS, *table.INPUTS, *table.ARTIFACTS])) == []


def test_the_artifacts_are_those_of_the_page() -> None:
    page = (ROOT / "docs" / "artifacts.md").read_text()
    assert set(re.findall(r"^\| `(kvmfleet_\w+)` \|", page, re.MULTILINE)) == table.ARTIFACTS - {"kvmfleet_decision"}
    assert "kvmfleet_decision" in page


def test_a_playbook_ends_before_it_asks_any_host(tmp_path: Path) -> None:
    inventory = tmp_path / "hosts.yml"
    inventory.write_text(json.dumps({"compute": {"hosts": {"kvm1": {"ansible_host": "192.0.2.1"}}}}))
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "ANSIBLE_NOCOLOR": "1", "ANSIBLE_COLLECTIONS_PATH": str(Path(table.__file__).parents[6])}
    program = str(Path(sys.executable).parent / "ansible-playbook")
    command = [program, "-i", str(inventory), "kvmfleet.compute.resize", "-e", "instance=web1", "-e", "flavour=large"]
    run = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode, run.stdout
    assert "flavour: no variable has this name, so nothing would come of it. Did you mean flavor?" in run.stdout
    assert re.search(r"^kvm1 +:", run.stdout, re.MULTILINE) is None, run.stdout
