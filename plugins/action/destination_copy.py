# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Says now and then how far the copy is while the module runs. A copy that is shorter than the interval costs no further round trip."""

from __future__ import annotations

import copy
import json
import os
import shlex
import threading
from typing import Any

from ansible.errors import AnsibleError
from ansible.utils.display import Display

from ansible_collections.kvmfleet.compute.plugins.action import migration
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.planning.status import copy_progress

_STATE_PATH = "/var/lib/kvmfleet"
_INTERVAL = 10.0
_COPYING = ("precopied", "started")
_display = Display()


class ActionModule(migration.ActionModule):
    """Runs the module, and reads the progress document of the host through a connection of its own meanwhile."""

    def _run_module(self, task_vars: dict[str, Any]) -> dict[str, Any]:
        arguments = self._task.args
        interval = float(arguments.get("progress_interval", _INTERVAL))
        done = threading.Event()
        if self._copies() and interval > 0:
            threading.Thread(target=self._beside()._tell, args=(done, interval), daemon=True).start()
        try:
            return super()._run_module(task_vars)
        finally:
            done.set()

    def _copies(self) -> bool:
        """Whether the module copies anything."""
        return self._task.args.get("state") in _COPYING

    def _what(self) -> str:
        """What is copied, where that is not the guest's disks."""
        return ""

    def _beside(self) -> ActionModule:
        """This action on a connection whose state is not that of the one which is busy; ssh multiplexes both."""
        other = copy.copy(self)
        other._connection = copy.copy(self._connection)
        if self._connection.become:
            other._connection.set_become_plugin(copy.copy(self._connection.become))
        return other

    def _tell(self, done: threading.Event, interval: float) -> None:
        arguments = self._task.args
        path = os.path.join(str(arguments.get("state_path", _STATE_PATH)), "exports", f"{arguments.get('migration_uuid')}.peer", "progress.json")
        while not done.wait(interval):
            try:
                answer = self._low_level_execute_command(f"cat {shlex.quote(path)}")
                progress = json.loads(answer["stdout"]) if answer["rc"] == 0 else None
            except (AnsibleError, ValueError):
                continue  # the module's own connection says what is wrong with the host
            if progress and not done.is_set():
                _display.display(f"{self._task.delegate_to or 'destination'}: {self._what()}{copy_progress(progress)}")
