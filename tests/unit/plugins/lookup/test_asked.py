# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Extra variables, wherever they come from, in whole runs of ansible-playbook."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.given import table

ROOT = Path(__file__).resolve().parents[4]
HANDED_OVER = ("migrate_instance", "migrate_resize", "settle_instance", "settle_begun")
ANSWERS = {"instance": "", "on_shutdown_timeout": None, "facts_max_age": " ", "kvmfleet_migration": {"instance": "web1"}}


def play(directory: Path, *words: str, **extra: Any) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(directory), "ANSIBLE_NOCOLOR": "1", "ANSIBLE_COLLECTIONS_PATH": str(Path(table.__file__).parents[6])}
    command = [str(Path(sys.executable).parent / "ansible-playbook"), *words, "-e", json.dumps(extra)]
    return subprocess.run(command, cwd=directory, env=environment, capture_output=True, text=True, check=False)


def test_what_a_person_gives_under_the_ansible_of_these_tests(tmp_path: Path) -> None:
    """What the stage compat tries under older ones."""
    inventory, playbook = ROOT / "tests/compat/inputs.ini", ROOT / "tests/compat/inputs.yml"
    done = play(tmp_path, "-i", str(inventory), str(playbook), "-e", "grow_filesystem=no", "-e", "older_than=30", **ANSWERS)
    assert done.returncode == 0, done.stdout


@pytest.fixture
def inventory(tmp_path: Path) -> Path:
    """A host that does not answer, in an inventory that has words of the playbooks."""
    path = tmp_path / "inventory.yml"
    words = dict.fromkeys(table.WORDS, "another thing")
    host = {"ansible_connection": "local", "kvmfleet_images_path": "/nowhere"}
    groups = {"all": {"vars": {**words, "kvmfleet_become": "false"}}, "compute": {"hosts": {"kvm1": host}}}
    path.write_text(json.dumps(groups))
    return path


@pytest.mark.parametrize("playbook", ["resize", "confirm"])
def test_a_word_of_the_inventory_is_no_request(inventory: Path, playbook: str) -> None:
    """Every one that there is, at once: none reaches a role, and each is told."""
    done = play(inventory.parent, "-i", str(inventory), f"kvmfleet.compute.{playbook}")
    assert done.returncode == 2
    assert "instance: expected a name of 1 to 128 characters" in done.stdout
    assert ", got nothing" in done.stdout
    assert "got 'another thing'" not in done.stdout
    told = " ".join(done.stderr.split())
    for word, known in table.WORDS.items():
        assert f"The inventory has a variable '{word}', which is not taken for what was asked for" in told
        assert f"as {known.unmistakable}." in told


def test_a_survey_that_nobody_answered_asks_for_nothing(inventory: Path) -> None:
    """Neither words of the playbooks nor options of the role, of which the specification would refuse some."""
    options = (name for options in (table.MIGRATE, table.SETTLE) for name in options if name not in HANDED_OVER)
    blank = {name: "" if number % 2 else None for number, name in enumerate((*table.WORDS, *options))}
    done = play(inventory.parent, "-i", str(inventory), "kvmfleet.compute.migrate", **{**blank, "kvmfleet_instance": "web1"})
    assert "No host defines the instance 'web1'" in done.stdout
    done = play(inventory.parent, "-i", str(inventory), "kvmfleet.compute.confirm", **{**blank, "instance": "", "kvmfleet_migration": {"instance": "web1"}})
    assert "No host defines the instance 'web1'" in done.stdout


@pytest.mark.parametrize(
    ("named", "operation"),
    [("", "of-the-move"), ("web1", "of-the-move"), ("8C7d1f0e-5e02-4ca0-b689-04fd7031faf5", "of-the-move"), ("web2", "")],
)
def test_a_workflow_whose_guest_is_named_by_its_uuid_settles_no_operation_but_its_own(tmp_path: Path, named: str, operation: str) -> None:
    """The result of the move has the guest's name, and the variables of the workflow, with the UUID, reach confirm and revert too."""
    uuids = {"of-the-move": "ff73d022-5e02-5ca0-b689-04fd7031faf5", "": ""}
    asks = {"ansible.builtin.debug": {"msg": "<{{ lookup('kvmfleet.compute.asked', 'migration_uuid', result=true) }}>"}}
    (tmp_path / "play.yml").write_text(json.dumps([{"hosts": "localhost", "gather_facts": False, "tasks": [asks]}]))
    result = {"instance": "web1", "migration_uuid": uuids["of-the-move"]}
    done = play(tmp_path, "-i", "localhost,", "play.yml", instance=named, migration_uuid="", kvmfleet_migration=result)
    assert f"<{uuids[operation]}>" in done.stdout, done.stdout


def test_all_that_is_wrong_is_said_at_once_and_before_anybody_is_asked(inventory: Path) -> None:
    wrong = {"instance": "web1", "allow_downsize": "perhaps", "older_than": "soon", "zone": "north", "kvmfleet_zone_wanted": "south"}
    done = play(inventory.parent, "-i", str(inventory), "kvmfleet.compute.resize", **wrong)
    assert done.returncode == 2
    for said in ("allow_downsize: expected true or false", "older_than: expected a number >= 0", "zone: expected the same as kvmfleet_zone_wanted"):
        assert said in done.stdout
    assert "Gather the state" not in done.stdout
