# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Stop a guest and prove that it is off; start it and watch it come up."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from .._journal.state_dir import StateDir
from .._libvirt import domains as _domains, guest_agent as _guest_agent, lifecycle as _lifecycle
from .._rules.errors import KvmfleetError
from .._rules.guest_states import SHUTDOWN_MODES, WAYS_OUT
from . import late_shutdown as _late_shutdown

SAVED = (
    "The memory of the guest is saved (managed save), and its next start goes on from that, with the definition of then. "
    "Start it first, or drop what is saved (virsh managedsave-remove): to the guest that is a power cut."
)
_AGENT_PATIENCE = 3  # times the interval after which a guest is asked again
_POLL = 0.02  # a guest that is off waits for us
_WATCH_POLL = 0.1


def stop(
    domain: Any,
    state: StateDir,
    *,
    timeout: float,
    retry_interval: float,
    on_timeout: str,
    modes: Sequence[str] = SHUTDOWN_MODES,
) -> dict[str, Any]:
    """Shut the guest down cleanly and return once libvirt says that it is off.

    The ways in `modes` take turns, one every `retry_interval` seconds, each skipped where libvirt refuses it (no agent): a guest may know
    only one of them. A guest whose agent took the request gets longer before it is asked again: that is on its way. After `timeout` seconds `on_timeout`
    decides: `fail` leaves the guest running, and has libvirt restart it should it follow later; `destroy` cuts its power.

    :returns: `was_running`, `method` (agent, acpi, destroy or already_off: the first that was taken), `requested_at`, `off_at` (Unix seconds).
    :raises KvmfleetError: `unsupported_state`, `shutdown_timeout`, `shutdown_pending`, `poweroff_restarts`.
    """
    require_hearing(domain, on_timeout)
    requested_at = time.time()
    if not _domains.is_active(domain):
        return {"was_running": False, "method": "already_off", "requested_at": requested_at, "off_at": requested_at}
    _late_shutdown.let_go_off(state, domain)
    taken: list[str] = []
    deadline = time.monotonic() + timeout
    next_signal = time.monotonic()
    turns = list(modes)
    while _domains.is_active(domain):
        now = time.monotonic()
        if now >= deadline:
            if on_timeout == "destroy":
                _lifecycle.destroy(domain)
                taken.insert(0, "destroy")
                continue
            if _late_shutdown.neutralise(state, domain):
                raise _not_in_time(domain, timeout, modes, taken)
            continue
        if now >= next_signal:
            mode = _lifecycle.request_shutdown(domain, turns)
            if mode is not None and mode not in taken:
                taken.append(mode)
            turns.append(turns.pop(0))
            next_signal = now + retry_interval * (_AGENT_PATIENCE if mode == "agent" else 1)
        time.sleep(_POLL)
    return {"was_running": True, "method": taken[0] if taken else "guest", "requested_at": requested_at, "off_at": time.time()}


def require_hearing(domain: Any, on_timeout: str) -> None:
    """A guest that is to shut down can hear the request: one that was paused would follow it whenever somebody resumes it.

    :param on_timeout: of `stop`; a guest whose power may be cut need not hear anything.
    :raises KvmfleetError: `unsupported_state`; the guest was not asked.
    """
    state, reason = _domains.state_reason(domain)
    if on_timeout != "destroy" and state in WAYS_OUT and state != "shutdown":
        because = f" ({reason})" if reason else ""
        raise KvmfleetError(
            "unsupported_state",
            f"Guest {domain.name()} is {state}{because}, so it hears no request to shut down and was not asked. {WAYS_OUT[state]}",
            instance=domain.name(),
            have=state,
            need=["running", "shutoff"],
        )


def _not_in_time(domain: Any, timeout: float, modes: Sequence[str], taken: Sequence[str]) -> KvmfleetError:
    asked = f"it was asked through {', '.join(taken)}" if taken else f"it took no request through {', '.join(modes)}"
    return KvmfleetError(
        "shutdown_timeout",
        f"Guest {domain.name()} did not shut down within {timeout:g} s ({asked}) and {_now(domain)}. Should it follow later, libvirt restarts it. Shut it down "
        "from inside, raise the shutdown timeout, or allow on_shutdown_timeout=destroy.",
        instance=domain.name(),
        timeout=timeout,
    )


def _now(domain: Any) -> str:
    state = _domains.state_name(domain)
    return "runs" if state == "running" else f"is {state}"


def require_not_saved(domain: Any) -> None:
    """The next start of the guest is a boot.

    :raises KvmfleetError: `managed_save`.
    """
    if _domains.has_managed_save(domain):
        raise KvmfleetError("managed_save", f"{domain.name()}: {SAVED}", instance=domain.name())


def start(domain: Any) -> float:
    """Start a defined domain; a running one is left alone.

    :returns: when libvirt had started it (Unix seconds).
    """
    if not _domains.is_active(domain):
        _lifecycle.create(domain)
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
        if not _domains.is_active(domain):
            return {"came_up": False, "agent_answered": None if not agent_timeout else False, "agent_at": None}
        if agent_timeout and agent_at is None and _guest_agent.agent_answers(domain):
            agent_at = time.time()
        if time.monotonic() >= settled and (not agent_timeout or agent_at is not None):
            break
        time.sleep(_WATCH_POLL)
    return {"came_up": _domains.is_active(domain), "agent_answered": None if not agent_timeout else agent_at is not None, "agent_at": agent_at}


def agent_answers_within(domain: Any, timeout: float) -> bool:
    """Whether the guest agent answers; it is asked once at least."""
    return _guest_agent.agent_answers(domain) or bool(watch(domain, settle=0, agent_timeout=timeout)["agent_answered"])


def await_agent(conn: Any, record: dict[str, Any], timeout: float) -> None:
    """Wait for the agent of a guest that was brought back, where it has one: until then it hears no request, and a plan takes it for one without."""
    domain = _domains.find_domain(conn, record["instance_uuid"]) if timeout and record.get("was_running") and record.get("agent_expected") else None
    if domain is not None and _domains.is_active(domain):
        agent_answers_within(domain, timeout)
