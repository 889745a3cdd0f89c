# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""When each task of a playbook began and how long it took, appended to the file KVMFLEET_DURATIONS as lines of JSON."""

from __future__ import annotations

import json
import os
import time

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: durations
type: notification
short_description: Durations of tasks
description: Appends a line of JSON with the name, the beginning (since the epoch) and the seconds of each task to the file KVMFLEET_DURATIONS.
"""


class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "notification"
    CALLBACK_NAME = "durations"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self):
        super().__init__()
        self.task, self.at, self.started = "start", time.time(), time.monotonic()

    def _next(self, name):
        now = time.monotonic()
        with open(os.environ["KVMFLEET_DURATIONS"], "a", encoding="utf-8") as log:
            log.write(json.dumps({"task": self.task, "at": self.at, "seconds": now - self.started}) + "\n")
        self.task, self.at, self.started = name, time.time(), now

    def v2_playbook_on_task_start(self, task, is_conditional):
        self._next(task.get_name())

    def v2_playbook_on_stats(self, stats):
        self._next("end")
