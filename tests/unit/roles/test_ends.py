# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Every playbook begins with the look whether its run is a whole one, and every play of it ends with an artifact, whatever fails in it.

`tests/compat/narrowed.py` runs them. This keeps a new playbook, play or task from going round the one way to begin, to refuse and to hand on.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from ansible_collections.kvmfleet.compute.tests.unit.roles.tasks import FILES as TASKS, door, tasks_in

ROOT = Path(__file__).parents[3]
PLAYBOOKS = sorted(ROOT.glob("playbooks/*.yml"))
FIRST = {"kvmfleet.compute.begin", "kvmfleet.compute.gather"}
GUARD = "kvmfleet.compute.in_whole_run(hostvars | default({})) }}"
FAIL = ("ansible.builtin.fail", "ansible.builtin.assert")
MADE_BY_FILTER = {"kvmfleet_migration", "kvmfleet_migrations", "kvmfleet_plan", "kvmfleet_error"}


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", PLAYBOOKS, ids=name_of)
def test_a_playbook_begins_with_the_look_whether_its_run_is_a_whole_one(path: Path) -> None:
    first = yaml.safe_load(path.read_text())[0]
    if path.stem == "begin":
        assert "kvmfleet.compute.whole_run" in first["tasks"][0]["block"][0]
    else:
        assert first["ansible.builtin.import_playbook"] in FIRST


@pytest.mark.parametrize("path", [path for path in PLAYBOOKS if path.stem != "begin"], ids=name_of)
def test_no_play_has_hosts_unless_that_look_was_had(path: Path) -> None:
    for play in yaml.safe_load(path.read_text()):
        assert "ansible.builtin.import_playbook" in play or play["hosts"].endswith(GUARD), play["name"]


@pytest.mark.parametrize("path", PLAYBOOKS, ids=name_of)
def test_whatever_fails_in_a_play_comes_to_the_one_end(path: Path) -> None:
    for play in yaml.safe_load(path.read_text()):
        for task in play.get("tasks", []):
            assert door(task["rescue"][-1]) == ("common", "failed"), (play["name"], task["name"])


@pytest.mark.parametrize("path", TASKS, ids=name_of)
def test_a_role_refuses_in_one_way(path: Path) -> None:
    if path.stem not in ("refuse", "failed"):
        assert [task["name"] for task in tasks_in(yaml.safe_load(path.read_text())) if any(module in task for module in FAIL)] == []


@pytest.mark.parametrize("path", TASKS, ids=name_of)
def test_results_are_made_by_a_filter(path: Path) -> None:
    """Templates make text of numbers, and of what Ansible marks as unsafe another type, under some ansible-core."""
    variables = "".join((ROOT / f"roles/{role}/vars/main.yml").read_text() for role in ("common", "migrate"))
    for task in tasks_in(yaml.safe_load(path.read_text())):
        stats = task.get("ansible.builtin.set_stats", {})
        for name, value in stats.get("data", {}).items():
            if name in MADE_BY_FILTER and "__settle_ended" not in value:
                known = re.search(r"^__migrate_result: .*?\n(?=\w)|^__common_error: .*?\n(?=\w|#)", variables, re.MULTILINE | re.DOTALL)
                assert "_artifact" in value or ("__migrate_result" in value or "__common_error" in value) and known and "_artifact" in known[0], name


# What each host of a play leaves for itself is put together, by the names of the hosts; nothing else may be merged with what was left before it.
OF_EACH_HOST = {"kvmfleet_images", "kvmfleet_prepared", "kvmfleet_not_gathered"}


@pytest.mark.parametrize("path", TASKS, ids=name_of)
def test_what_is_handed_on_is_not_put_together_with_what_an_earlier_role_of_the_play_has(path: Path) -> None:
    for task in tasks_in(yaml.safe_load(path.read_text())):
        stats = task.get("ansible.builtin.set_stats", {})
        for name in stats.get("data", {}):
            apart = "{{ __common_failed_on | default('') | length > 0 }}" if name == "kvmfleet_error" else False
            assert name in OF_EACH_HOST or stats.get("aggregate") == apart, name


CONTROLLER = ("debug", "set_fact", "set_stats", "fail", "include_tasks", "include_role", "import_tasks", "channel_tunnel", "whole_run")
CONTROLLER += ("fleet_turn", "add_host", "meta")
KEYWORDS = (
    "block",
    "rescue",
    "always",
    "name",
    "when",
    "vars",
    "loop",
    "loop_control",
    "module_defaults",
    "register",
    "delegate_to",
    "failed_when",
    "changed_when",
)
KEYWORDS += ("check_mode", "become", "no_log", "ignore_unreachable", "ignore_errors", "timeout", "delegate_facts", "args", "run_once")
# Each host acts for itself there, and the play has an end for those that are lost (`lost.yml`); the role awx talks to AWX alone.
ENDS_FOR_THE_LOST = {"images.yml", "prepare_host.yml"}
BY_ITSELF = ("roles/prepare_host/", "roles/fleet/tasks/images.yml", "roles/awx/")


def lost_with_its_host(task: dict[str, Any], routed: set[str]) -> bool:
    """Whether Ansible would end the run, without a rescue, when the connection to the task's host breaks."""
    modules = [word for word in task if word not in KEYWORDS]
    if task.get("delegate_to") == "localhost" or task.get("ignore_unreachable") or "block" in task:
        return False
    return any(word.rpartition(".")[2] not in {*CONTROLLER, *routed} for word in modules)


def test_no_task_ends_a_run_without_an_artifact_when_it_loses_its_host() -> None:
    """A module of an operation makes a failure of it; whatever else connects says so, or the play does at its end."""
    routing = yaml.safe_load((ROOT / "meta/runtime.yml").read_text())
    modules = routing["plugin_routing"]["modules"]
    routed = {*routing["action_groups"]["operation"], *(name for name, way in modules.items() if way["action_plugin"] == "kvmfleet.compute.migration")}
    found = [
        f"{name_of(path)}: {task['name']}"
        for path in TASKS
        if not name_of(path).startswith(BY_ITSELF)
        for task in tasks_in(yaml.safe_load(path.read_text()))
        if lost_with_its_host(task, routed)
    ]
    assert found == []


@pytest.mark.parametrize("path", PLAYBOOKS, ids=name_of)
def test_a_play_in_which_each_host_acts_for_itself_ends_with_a_look_for_those_that_were_lost(path: Path) -> None:
    for play in yaml.safe_load(path.read_text()):
        per_host = [task for task in play.get("tasks", []) if "__common_failed_on" in str(task.get("rescue"))]
        roles = {door(task) for each in per_host for task in each["block"]}
        # A host that does not answer counts as one that is down.
        # A host that stands for a move is the controller; a move that is lost is told by the play that looks after them.
        if play.get("ignore_unreachable") or (roles and roles <= {("gather", "main"), ("gather", "history"), ("fleet", "move")}):
            continue
        if per_host:
            assert path.name in ENDS_FOR_THE_LOST
            assert "localhost" in play["hosts"]
            last = play["tasks"][-1]
            assert (last["when"], door(last["block"][0])) == ("inventory_hostname == 'localhost'", ("common", "lost"))
