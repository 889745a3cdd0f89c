# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Argument specifications that several modules share, and their translation into keyword arguments of the core."""

from __future__ import annotations

import os.path
from collections.abc import Iterator
from typing import Any

from ._rules.errors import KvmfleetError
from ._rules.guest_states import SHUTDOWN_MODES

OPERATION_ARGS: dict[str, Any] = {
    "migration_uuid": {"type": "str", "required": True},
    "owner": {"type": "str", "required": True},
    "lease": {"type": "float", "default": 30.0},
}
HISTORY_ARGS: dict[str, Any] = {
    "history_days": {"type": "float", "default": 90.0},
}
LOST_ARGS: dict[str, Any] = {
    "lost_host": {"type": "str"},
}
AUDIT_ARGS: dict[str, Any] = {
    "requested_by": {"type": "dict", "default": {}},
    "reason": {"type": "str"},
}
SHUTDOWN_ARGS: dict[str, Any] = {
    "shutdown_timeout": {"type": "float", "default": 60.0},
    "shutdown_retry_interval": {"type": "float", "default": 10.0},
    "on_shutdown_timeout": {"type": "str", "choices": ["fail", "destroy"], "default": "fail"},
    "shutdown_modes": {"type": "list", "elements": "str", "choices": list(SHUTDOWN_MODES), "default": list(SHUTDOWN_MODES)},
}
PROOF_ARGS: dict[str, Any] = {
    "without_agent": {"type": "bool", "default": False},
}
WATCH_ARGS: dict[str, Any] = {
    "settle_time": {"type": "float", "default": 1.0},
    "agent_timeout": {"type": "float", "default": 0.0},
}


def shutdown(params: dict[str, Any]) -> dict[str, Any]:
    """Keyword arguments of `_guest.power.stop`."""
    return {
        "timeout": params["shutdown_timeout"],
        "retry_interval": params["shutdown_retry_interval"],
        "on_timeout": params["on_shutdown_timeout"],
        "modes": params["shutdown_modes"],
    }


def watch(params: dict[str, Any]) -> dict[str, Any]:
    """Keyword arguments of `_guest.power.watch`."""
    return {"settle": params["settle_time"], "agent_timeout": params["agent_timeout"]}


def require_directories(params: dict[str, Any]) -> None:
    """Every directory that a module is told is an absolute one and not the root, below which is everything.

    The roles see to that too; whoever calls a module by himself, or with a list that Jinja made of the letters of a text, learns it here.

    :raises KvmfleetError: `invalid_directory`.
    """
    for name, value in params.items():
        for directory in _directories(name, value):
            if not os.path.isabs(directory) or not os.path.normpath(directory).strip("/"):
                raise KvmfleetError(
                    "invalid_directory", f"{name}: expected the absolute path of a directory other than /, got {directory!r}.", option=name, value=directory
                )


def _directories(name: str, value: Any) -> Iterator[str]:
    if value and name in ("images_path", "state_path"):
        yield value
    elif value and name == "image_directories":
        yield from value
    elif value and name == "disk_directories":
        yield from map(str, value.values())
