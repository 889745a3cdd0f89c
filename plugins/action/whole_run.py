# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Looks whether a run leaves something out. Nothing but an action plugin sees the tags that an importing playbook gave to its task."""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase

from ansible_collections.kvmfleet.compute.plugins.plugin_utils import run
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.given import read
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.given.table import NOTHING
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.planning.answer import answer
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.planning.whole_run import Asked, is_meant, require_whole

_OF_THE_TASK = frozenset({"always"})


class ActionModule(ActionBase):
    """It touches no host."""

    TRANSFERS_FILES = False
    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        error = answer(lambda: self._looked(task_vars or {}))["error"]
        if error is not None:
            return {**result, "failed": True, "error_code": error["code"], "msg": error["message"], "details": error["details"]}
        return {**result, "changed": False, "ansible_facts": {"kvmfleet_whole_run": run.this().name}}

    def _looked(self, variables: dict[str, Any]) -> dict[str, Any]:
        asked = self._asked(variables)
        if is_meant(asked):
            require_whole(asked)
        return {}

    def _asked(self, variables: dict[str, Any]) -> Asked:
        _checked, options = self.validate_argument_spec({"fleet": {"type": "bool", "default": True}})
        fleet = [str(name) for name in (variables.get("groups") or {}).get("compute") or []] if options["fleet"] else None
        expected = read.given("kvmfleet_hosts_expected", variables["hostvars"][fleet[0]].get("kvmfleet_hosts_expected") if fleet else None)
        return Asked(
            limit=str(variables["ansible_limit"]) if "ansible_limit" in variables else None,
            left=[str(name) for name in variables.get("ansible_play_hosts_all") or []],
            fleet=fleet,
            tags=[str(tag) for tag in variables.get("ansible_run_tags") or ["all"]],
            skip_tags=[str(tag) for tag in variables.get("ansible_skip_tags") or []],
            own_tags={str(tag) for tag in self._task.tags} - _OF_THE_TASK,
            expected=None if fleet is None or expected == NOTHING else expected,
        )
