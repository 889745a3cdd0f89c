# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs the modules that only look at a host (meta/runtime.yml), on a connection that ends by itself when the host stops without a word."""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.inventory_name import tell_host_its_name
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.liveness import keep_asking


class ActionModule(ActionBase):
    """A lost connection is an unreachable host, as for any module."""

    TRANSFERS_FILES = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        self._supports_async = True
        self._supports_check_mode = True
        result = super().run(tmp, task_vars)
        tell_host_its_name(self._task, task_vars or {})
        keep_asking(self._connection, self._task.args)
        result.update(self._execute_module(task_vars=task_vars, wrap_async=bool(self._task.async_val)))
        return result
