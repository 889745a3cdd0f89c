# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Waits for the turn of a guest in a run that moves many, and says one line when its move begins and one when it ends.

A guest that waits holds the process that Ansible gave it, so that the next one is not begun in its place.
"""

from __future__ import annotations

import time
from typing import Any

from ansible.plugins.action import ActionBase

from ansible_collections.kvmfleet.compute.plugins.action.migration import _say
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.fleet import progress
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.fleet.turns import Turns

_PATIENCE = 60.0
_POLL = 0.2
_SPEC: dict[str, Any] = {
    "state": {"type": "str", "choices": ["begun", "over", "told"], "required": True},
    "directory": {"type": "path", "required": True},
    "uuid": {"type": "str"},
    "lost": {"type": "list", "elements": "str", "default": []},
    "parallel": {"type": "int", "default": 10},
    "max_fail": {"type": "int", "default": 1},
    "result": {"type": "dict", "default": {}},
}


class ActionModule(ActionBase):
    """It touches no host."""

    TRANSFERS_FILES = False
    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        _checked, options = self.validate_argument_spec(_SPEC)
        turns = Turns(options["directory"])
        act = {"begun": self._begin, "over": self._end, "told": self._tell}[options["state"]]
        return {**result, "changed": False, **act(turns, options)}

    def _begin(self, turns: Turns, options: dict[str, Any]) -> dict[str, Any]:
        asked = {name: options[name] for name in ("parallel", "max_fail", "lost")}
        deadline = time.monotonic() + _PATIENCE
        verdict = turns.begin(options["uuid"], **asked)
        while verdict.do == progress.WAIT and time.monotonic() < deadline:
            time.sleep(_POLL)
            verdict = turns.begin(options["uuid"], **asked)
        if verdict.do != progress.WAIT:
            _say(turns.line(options["uuid"]))
        return {"turn": verdict.do, "reason": verdict.reason}

    def _end(self, turns: Turns, options: dict[str, Any]) -> dict[str, Any]:
        turns.end(options["uuid"], {**options["result"], **_numbers(options["result"])})
        said = turns.line(options["uuid"])
        _say(said)
        return {"said": said}

    def _tell(self, turns: Turns, _options: dict[str, Any]) -> dict[str, Any]:
        return {"results": turns.told()}


def _numbers(result: dict[str, Any]) -> dict[str, Any]:
    """The figures of a result, of which templates of some ansible-core make text."""
    down = result.get("downtime_seconds")
    return {"bytes": int(result.get("bytes") or 0), "downtime_seconds": None if down in (None, "", "None") else float(down)}
