# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A callback plugin that kills the playbook and all its local children at a chosen task, and lists the tasks that it met.

Between two tasks the controller changes nothing, so that "before task N" for every N is every point at which it can die while no module runs.
"""

from __future__ import annotations

import json
import os
import signal
import time

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = r"""
name: die
type: notification
short_description: Die like a controller that loses its power
description:
  - For the integration tests.
  - E(KVMFLEET_DIE_BEFORE) is the name of a task, or the number of a task's start in the file E(KVMFLEET_TASKS) of an earlier run.
  - E(KVMFLEET_TASKS) gets one line of JSON, name, action and time, when a task starts, and one for the end.
author: kvmfleet contributors
"""


class CallbackModule(CallbackBase):
    """Does nothing unless one of its two environment variables is set."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "notification"
    CALLBACK_NAME = "die"

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self._met = 0

    def v2_playbook_on_task_start(self, task, is_conditional):
        if os.environ.get("KVMFLEET_DIE_BEFORE") in (task.name, str(self._met)):
            os.killpg(0, signal.SIGKILL)
        self._met += 1
        self._list(task.name, task.action)

    def v2_playbook_on_stats(self, stats):
        if os.environ.get("KVMFLEET_DIE_BEFORE") == str(self._met):
            os.killpg(0, signal.SIGKILL)
        self._list("", "")

    def _list(self, name, action):
        if "KVMFLEET_TASKS" in os.environ:
            with open(os.environ["KVMFLEET_TASKS"], "a") as stream:
                stream.write(json.dumps([name, action, time.time()]) + "\n")
