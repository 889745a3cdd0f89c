# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Ask the agent in a guest, and let a guest write again whose filesystems were frozen."""

from __future__ import annotations

import contextlib
import json
from typing import Any

from .._rules.errors import KvmfleetError, shown
from .binding import LibvirtError, libvirt, libvirt_qemu

_THAWS = 3
_NO_AGENT = (
    "VIR_ERR_AGENT_UNRESPONSIVE",
    "VIR_ERR_AGENT_UNSYNCED",
    "VIR_ERR_AGENT_COMMAND_TIMEOUT",  # since libvirt 11
    "VIR_ERR_ARGUMENT_UNSUPPORTED",
    "VIR_ERR_NO_SUPPORT",
    "VIR_ERR_OPERATION_INVALID",
)


def agent_command(domain: Any, command: dict[str, Any], timeout: int = 5) -> dict[str, Any] | None:
    """Ask the guest agent; its answer, or None where no agent answers within `timeout` seconds with what can be read."""
    if libvirt_qemu is None:
        return None
    try:
        return json.loads(libvirt_qemu.qemuAgentCommand(domain, json.dumps(command), timeout, 0))
    except (ValueError, RecursionError):
        return None
    except LibvirtError as exc:
        if exc.get_error_code() in {getattr(libvirt, name, None) for name in _NO_AGENT}:
            return None
        raise KvmfleetError(
            "agent_command_failed",
            f"The guest agent of {domain.name()} refused {command.get('execute')}: {shown(str(exc))}.",
            command=command.get("execute"),
        ) from exc


def agent_answers(domain: Any) -> bool:
    return agent_command(domain, {"execute": "guest-ping"}, timeout=1) is not None


def thaw(domain: Any) -> bool:
    """Let a guest write again whose filesystems were frozen by a request of ours, or libvirt's; False where its agent does not say that they are thawed."""
    for _attempt in range(_THAWS):
        with contextlib.suppress(KvmfleetError):  # it carries one of the commands not out
            status = agent_command(domain, {"execute": "guest-fsfreeze-status"})
            if status is not None and status.get("return") == "thawed":
                return True
            agent_command(domain, {"execute": "guest-fsfreeze-thaw"})
    return False


def require_thawed(domain: Any) -> None:
    """:raises KvmfleetError: `guest_frozen` where an agent says that the filesystems are, and does not thaw them. A guest without an agent is none."""
    status = None
    with contextlib.suppress(KvmfleetError):
        status = agent_command(domain, {"execute": "guest-fsfreeze-status"})
    if status is not None and status.get("return") == "frozen" and not thaw(domain):
        raise frozen(domain)


def frozen(domain: Any) -> KvmfleetError:
    return KvmfleetError(
        "guest_frozen",
        f"The filesystems of guest {domain.name()} were frozen for a moment, and its agent does not say that they are thawed: it may be unable to write. Thaw "
        f"them (virsh domfsthaw {domain.name()}), or from inside (fsfreeze -u), and run kvmfleet.compute.recover.",
        instance=domain.name(),
    )
