# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Stop a guest and prove that it is off; start it and watch it come up."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from . import _libvirt
from ._errors import KvmfleetError

SHUTDOWN_MODES = ("agent", "acpi")
SAVED = (
    "The memory of the guest is saved (managed save), and its next start goes on from that, with the definition of then. "
    "Start it first, or drop what is saved (virsh managedsave-remove): to the guest that is a power cut."
)
_POLL = 0.02  # a guest that is off waits for us
_WATCH_POLL = 0.1


def stop(
    domain: Any,
    *,
    timeout: float,
    retry_interval: float,
    on_timeout: str,
    modes: Sequence[str] = SHUTDOWN_MODES,
) -> dict[str, Any]:
    """Shut the guest down cleanly and return once libvirt says that it is off.

    The ways in `modes` take turns, one every `retry_interval` seconds, each skipped where libvirt refuses it (no agent): a guest may know
    only one of them. After `timeout` seconds `on_timeout` decides: `fail` leaves the guest as it is, `destroy` cuts its power.

    :returns: `was_running`, `method` (agent, acpi, destroy or already_off), `requested_at`, `off_at` (Unix seconds).
    :raises KvmfleetError: `shutdown_timeout`.
    """
    requested_at = time.time()
    if not _libvirt.is_active(domain):
        return {"was_running": False, "method": "already_off", "requested_at": requested_at, "off_at": requested_at}
    method = None
    deadline = time.monotonic() + timeout
    next_signal = time.monotonic()
    turns = list(modes)
    while _libvirt.is_active(domain):
        now = time.monotonic()
        if now >= deadline:
            if on_timeout == "destroy":
                _libvirt.destroy(domain)
                method = "destroy"
                continue
            raise KvmfleetError(
                "shutdown_timeout",
                f"Guest {domain.name()} did not shut down within {timeout:g} s (asked through {', '.join(modes)}, every {retry_interval:g} s) and was left "
                "running. Shut it down from inside, raise the shutdown timeout, or allow on_shutdown_timeout=destroy.",
                instance=domain.name(),
                timeout=timeout,
            )
        if now >= next_signal:
            method = _libvirt.request_shutdown(domain, turns) or method
            turns.append(turns.pop(0))
            next_signal = now + retry_interval
        time.sleep(_POLL)
    return {"was_running": True, "method": method or "guest", "requested_at": requested_at, "off_at": time.time()}


def require_not_saved(domain: Any) -> None:
    """The next start of the guest is a boot.

    :raises KvmfleetError: `managed_save`.
    """
    if _libvirt.has_managed_save(domain):
        raise KvmfleetError("managed_save", f"{domain.name()}: {SAVED}", instance=domain.name())


def start(domain: Any) -> float:
    """Start a defined domain; a running one is left alone.

    :returns: when libvirt had started it (Unix seconds).
    """
    if not _libvirt.is_active(domain):
        _libvirt.create(domain)
    return time.time()


def watch(domain: Any, *, settle: float, agent_timeout: float) -> dict[str, Any]:
    """Watch a started guest come up.

    :param settle: seconds during which it must stay active (a guest that QEMU drops at once did not come up).
    :param agent_timeout: seconds to wait for the guest agent; 0 where it is not expected to answer.
    :returns: `came_up` and `agent_answered` (None where it was not expected), `agent_at` (Unix seconds or None).
    """
    settled = time.monotonic() + settle
    deadline = time.monotonic() + max(settle, agent_timeout)
    agent_at = None
    while time.monotonic() < deadline:
        if not _libvirt.is_active(domain):
            return {"came_up": False, "agent_answered": None if not agent_timeout else False, "agent_at": None}
        if agent_timeout and agent_at is None and _libvirt.agent_answers(domain):
            agent_at = time.time()
        if time.monotonic() >= settled and (not agent_timeout or agent_at is not None):
            break
        time.sleep(_WATCH_POLL)
    return {"came_up": _libvirt.is_active(domain), "agent_answered": None if not agent_timeout else agent_at is not None, "agent_at": agent_at}


def agent_answers_within(domain: Any, timeout: float) -> bool:
    """Whether the guest agent answers; it is asked once at least."""
    return _libvirt.agent_answers(domain) or bool(watch(domain, settle=0, agent_timeout=timeout)["agent_answered"])
