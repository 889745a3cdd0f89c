# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A callback plugin that writes what a playbook did as JSON into the file $KVMFLEET_RECORD."""

from __future__ import annotations

import json
import os

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = r"""
name: record
type: notification
short_description: Write the outcome of a playbook as JSON
description: For the integration tests.
author: kvmfleet contributors
"""


class CallbackModule(CallbackBase):
    """Collects failures, messages, diffs and statistics."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "notification"
    CALLBACK_NAME = "record"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self._record = {"failures": [], "messages": [], "diffs": []}

    def v2_runner_on_ok(self, result):
        if result._task.action.rpartition(".")[2] == "debug" and "msg" in result._result:
            self._record["messages"].append(result._result["msg"])

    def v2_runner_on_failed(self, result, ignore_errors=False):
        if not ignore_errors:
            self._record["failures"].append(str(result._result.get("msg", "")))

    def v2_runner_on_unreachable(self, result):
        self.v2_runner_on_failed(result)

    def v2_on_file_diff(self, result):
        diffs = result._result.get("diff") or []
        self._record["diffs"].extend(diffs if isinstance(diffs, list) else [diffs])

    def v2_playbook_on_stats(self, stats):
        recap = {host: stats.summarize(host) for host in stats.processed}
        with open(os.environ["KVMFLEET_RECORD"], "w") as stream:
            json.dump({**self._record, "recap": recap, "stats": stats.custom.get("_run", {})}, stream, default=str)
