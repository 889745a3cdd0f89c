# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs the modules of an operation (meta/runtime.yml). A lost connection is a failure of the task, since Ansible ends a play without its rescue otherwise."""

from __future__ import annotations

import time
from typing import Any

from ansible.errors import AnsibleConnectionFailure
from ansible.plugins.action import ActionBase

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.liveness import keep_asking


class ActionModule(ActionBase):
    """Nobody knows how far the module came: what is, the rescue reads from the hosts."""

    TRANSFERS_FILES = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        self._supports_async = True
        result = super().run(tmp, task_vars)
        keep_asking(self._connection, self._task.args)
        result.update(self._run_module(task_vars or {}))
        return result

    def _run_module(self, task_vars: dict[str, Any]) -> dict[str, Any]:
        try:
            answer = self._execute_module(task_vars=task_vars, wrap_async=bool(self._task.async_val))
            # One clock for what several hosts answer, which nobody sets.
            return {**answer, "received_at": time.monotonic()}
        except AnsibleConnectionFailure as exc:
            host = self._task.delegate_to or task_vars.get("inventory_hostname")
            return {"failed": True, "error_code": "host_unreachable", "msg": f"{host} is unreachable: {exc.message}"}
