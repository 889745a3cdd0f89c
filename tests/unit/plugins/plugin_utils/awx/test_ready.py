# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""In check mode, an object that names another one which AWX does not have yet is not looked at."""

from __future__ import annotations

from typing import Any

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.awx.ready import ready


def seen(*there: dict[str, Any], missing: tuple[dict[str, Any], ...] = ()) -> dict[str, Any]:
    return {"results": [*({"item": item, "id": 1} for item in there), *({"item": item, "changed": True} for item in missing)]}


def test_a_node_waits_for_its_workflow_and_its_template() -> None:
    node = {"workflow_job_template": "w", "identifier": "plan", "unified_job_template": "t"}
    assert ready([node], {}) == []
    assert ready([node], {"workflows": seen({"name": "w"}), "job_templates": seen(missing=({"name": "t"},))}) == []
    assert ready([node], {"workflows": seen({"name": "w"}), "job_templates": seen({"name": "t"})}) == [node]


def test_how_a_node_leads_on_waits_for_both_nodes() -> None:
    link = {"workflow_job_template": "w", "identifier": "plan", "success_nodes": ["move"]}
    plan, move = ({"workflow_job_template": "w", "identifier": name} for name in ("plan", "move"))
    workflows = seen({"name": "w"})
    assert ready([link], {"workflows": workflows, "workflow_nodes": seen(plan, missing=(move,))}) == []
    assert ready([link], {"workflows": workflows, "workflow_nodes": seen(plan, move)}) == [link]


def test_a_grant_waits_for_its_team_and_all_that_it_is_about() -> None:
    grant = {"team": "t", "role": "execute", "job_templates": ["a", "b"]}
    assert ready([grant], {"teams": seen({"name": "t"}), "job_templates": seen({"name": "a"})}) == []
    assert ready([grant], {"teams": seen({"name": "t"}), "job_templates": seen({"name": "a"}, {"name": "b"})}) == [grant]


def test_what_names_nothing_waits_for_nothing_and_a_skipped_task_has_seen_nothing() -> None:
    assert ready([{"name": "t", "description": "x"}], {"teams": {"skipped": True}}) == [{"name": "t", "description": "x"}]
    assert ready([{"name": "t", "notification_templates_error": ["n"]}], {"notification_templates": {"skipped": True}}) == []
