# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The guest agent: looking inside a guest."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import LabError
from ..host import Host

POLL_INTERVAL = 0.1
_NOT_CONNECTED = "guest agent is not connected"


@dataclass(frozen=True)
class AgentResult:
    """The end of a program that ran inside a guest."""

    status: int
    stdout: bytes
    stderr: bytes


def answers(host: Host, guest: str) -> bool:
    """Whether the agent of a guest answers now."""
    return host.virsh("qemu-agent-command", guest, '{"execute": "guest-ping"}', "--timeout", "5", check=False).returncode == 0


def execute(host: Host, guest: str, argv: Sequence[str], timeout: float) -> AgentResult:
    """Run a program inside a guest to its end, as soon as its agent has connected."""
    deadline = time.monotonic() + timeout
    while True:
        try:
            started = _call(host, guest, "guest-exec", {"path": argv[0], "arg": list(argv[1:]), "capture-output": True})
            break
        except LabError as error:
            if _NOT_CONNECTED not in str(error) or time.monotonic() > deadline:
                raise
        time.sleep(POLL_INTERVAL)
    while True:
        state = _call(host, guest, "guest-exec-status", {"pid": started["pid"]})
        if state["exited"]:
            return AgentResult(state.get("exitcode", 128 + state.get("signal", 0)), _output(state, "out-data"), _output(state, "err-data"))
        if time.monotonic() > deadline:
            raise LabError(f"{argv[0]} did not end within {timeout:.0f} s in guest {guest}")
        time.sleep(POLL_INTERVAL)


def _call(host: Host, guest: str, command: str, arguments: dict[str, Any] | None = None) -> Any:
    request = json.dumps({"execute": command, "arguments": arguments or {}})
    return json.loads(host.virsh("qemu-agent-command", guest, request, "--timeout", "30").stdout)["return"]


def _output(state: dict[str, Any], key: str) -> bytes:
    return base64.b64decode(state.get(key, ""))
