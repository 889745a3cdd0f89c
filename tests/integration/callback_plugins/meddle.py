# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A callback plugin that runs a command between two tasks, as an admin might who does not know of the operation."""

from __future__ import annotations

import os
import shlex
import subprocess

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = r"""
name: meddle
type: notification
short_description: Run a command right before a task
description:
  - For the integration tests.
  - E(KVMFLEET_MEDDLE_BEFORE) is the name of the task, or the number of a task's start as the callback plugin die counts them.
  - E(KVMFLEET_MEDDLE_WITH) is the command.
author: kvmfleet contributors
"""


class CallbackModule(CallbackBase):
    """Does nothing unless its environment variables are set."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "notification"
    CALLBACK_NAME = "meddle"

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self._met = 0

    def v2_playbook_on_task_start(self, task, is_conditional):
        number, self._met = str(self._met), self._met + 1
        if os.environ.get("KVMFLEET_MEDDLE_BEFORE") in (task.name, number):
            command = os.environ["KVMFLEET_MEDDLE_WITH"]
            done = subprocess.run(shlex.split(command), check=False, stdin=subprocess.DEVNULL, capture_output=True, text=True)
            if done.returncode:  # ansible-core makes an exception of a callback plugin a warning and goes on
                raise SystemExit(f"meddle: {command} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
