# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Every playbook begins with the look whether its run is a whole one, and every play of it ends with an artifact, whatever fails in it.

`tests/compat/narrowed.py` runs them. This keeps a new playbook, play or task from going round the one way to begin, to refuse and to hand on.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[3]
PLAYBOOKS = sorted(ROOT.glob("playbooks/*.yml"))
TASKS = sorted(ROOT.glob("roles/*/tasks/*.yml"))
FIRST = {"kvmfleet.compute.begin", "kvmfleet.compute.gather"}
GUARD = "kvmfleet.compute.in_whole_run(hostvars | default({})) }}"
FAIL = ("ansible.builtin.fail", "ansible.builtin.assert")
MADE_BY_FILTER = {"kvmfleet_migration", "kvmfleet_migrations", "kvmfleet_plan", "kvmfleet_error"}


def tasks_in(document: Any) -> Iterator[dict[str, Any]]:
    for task in document or []:
        yield task
        for part in ("block", "rescue", "always"):
            yield from tasks_in(task.get(part))


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
            assert task["rescue"][-1]["ansible.builtin.include_role"]["tasks_from"] == "failed", (play["name"], task["name"])


@pytest.mark.parametrize("path", TASKS, ids=name_of)
def test_a_role_refuses_in_one_way(path: Path) -> None:
    if path.stem not in ("refuse", "failed"):
        assert [task["name"] for task in tasks_in(yaml.safe_load(path.read_text())) if any(module in task for module in FAIL)] == []


@pytest.mark.parametrize("path", TASKS, ids=name_of)
def test_results_are_made_by_a_filter(path: Path) -> None:
    """Templates make text of numbers, and of what Ansible marks as unsafe another type, under some ansible-core."""
    variables = (ROOT / "roles/migrate/vars/main.yml").read_text()
    for task in tasks_in(yaml.safe_load(path.read_text())):
        stats = task.get("ansible.builtin.set_stats", {})
        for name, value in stats.get("data", {}).items():
            if name in MADE_BY_FILTER and "__migrate_ended" not in value:
                known = re.search(r"^__migrate_result: .*?\n(?=\w)|^__migrate_error: .*?\n(?=\w|#)", variables, re.MULTILINE | re.DOTALL)
                assert "_artifact" in value or ("__migrate_result" in value or "__migrate_error" in value) and known and "_artifact" in known[0], name
            if name in MADE_BY_FILTER - {"kvmfleet_error"}:
                assert stats["aggregate"] is False, f"{name} would be merged with that of an operation before"
