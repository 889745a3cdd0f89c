# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A guest that was asked to shut down and has not in time may still do so at any later moment: nobody can take the request back.

So libvirt is told to restart it when it does, which is an action of what runs now and not of its definition. That holds without any process of ours:
libvirt keeps it with the state of the guest, over a restart of its own too, and resets the guest in the same QEMU. Later the action becomes again what
the definition says, or a shutdown that the owner asks for would be a reboot as well: as soon as the guest was reset, or after a long patience. A process
that stays on the host watches for that; where it dies, whoever works on the host next does it, after the patience.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from typing import Any

from .._journal.records import Journal
from .._journal.state_dir import StateDir
from .._libvirt import binding as _binding, connection as _connection, domains as _domains, lifecycle as _lifecycle
from .._rules.errors import KvmfleetError
from .._system import sessions as _sessions

PATIENCE = 3600.0  # seconds, after which a guest is taken to have forgotten the request
_KIND = "late_shutdowns"
_GOING_DOWN = 30.0  # seconds, after which a QEMU that is going down is gone


def let_go_off(state: StateDir, domain: Any) -> None:
    """Before it is asked to shut down: a guest is off when it powers off, whatever an earlier run has set, or its definition says.

    :raises KvmfleetError: `poweroff_restarts` where libvirt does not do that; the guest was not asked.
    """
    state.remove(_KIND, domain.UUIDString())
    action = _lifecycle.on_poweroff(domain, live=True)
    if action == "destroy":
        return
    try:
        _lifecycle.set_on_poweroff(domain, "destroy")
    except _binding.LibvirtError as exc:
        if _domains.is_active(domain):
            raise KvmfleetError(
                "poweroff_restarts",
                f"Guest {domain.name()} would not stay off: its action for a power-off is {action}, and libvirt does not change that while it runs ({exc}). It "
                "was not asked to shut down. 1. Let its definition say <on_poweroff>destroy</on_poweroff> (virsh edit), restart it, and repeat; or 2. cut its "
                "power (virsh destroy) and repeat, which moves it while it is off.",
                instance=domain.name(),
                have=action,
                need="destroy",
            ) from exc


def neutralise(state: StateDir, domain: Any) -> bool:
    """Let libvirt restart the guest when it powers off; False where it is off by now.

    :raises KvmfleetError: `shutdown_pending` where libvirt does not do that.
    """
    if _lifecycle.on_poweroff(domain, live=False) == "destroy":
        entry = {"instance_uuid": domain.UUIDString(), "instance_name": domain.name(), "domain_id": domain.ID(), "since": time.time()}
        state.write(_KIND, domain.UUIDString(), entry)
    try:
        _lifecycle.set_on_poweroff(domain, "restart")
        if _stays(domain):
            _supervise(state, domain)
            return True
    except _binding.LibvirtError as exc:
        if _domains.is_active(domain):
            state.remove(_KIND, domain.UUIDString())
            raise KvmfleetError(
                "shutdown_pending",
                f"Guest {domain.name()} did not shut down in time. It runs now, but it may still shut down, and libvirt cannot restart it then ({exc}). "
                f"The operation stays open: kvmfleet.compute.recover starts the guest when it is off, and ends the operation {PATIENCE / 60:g} min after "
                "the request.",
                instance=domain.name(),
            ) from exc
    state.remove(_KIND, domain.UUIDString())
    return False


def before_going_back(journal: Journal, record: Mapping[str, Any], domain: Any | None) -> None:
    """A run that asked the guest to shut down has ended: if the guest runs, it goes on running.

    :raises KvmfleetError: as `neutralise`, until the patience is over.
    """
    if domain is None or record["step"] != "stopping" or not _domains.is_active(domain):
        return
    try:
        neutralise(journal.state, domain)
    except KvmfleetError:
        if time.time() - max(entry["at"] for entry in record["history"] if entry["step"] == "stopping") < PATIENCE:
            raise


def settle(conn: Any, state: StateDir) -> None:
    """Let guests go off again when they power off, for which the time has come."""
    for entry in state.read_all(_KIND):
        domain = _domains.find_domain(conn, entry["instance_uuid"])
        same = domain is not None and _domains.is_active(domain) and domain.ID() == entry["domain_id"]
        if not same or not 0 <= time.time() - entry["since"] < PATIENCE:
            _put_back(state, domain if same else None, entry)


def _put_back(state: StateDir, domain: Any | None, entry: Mapping[str, Any]) -> None:
    with contextlib.suppress(_binding.LibvirtError):  # it went off just now
        if domain is not None:
            _lifecycle.set_on_poweroff(domain, _lifecycle.on_poweroff(domain, live=False))
    state.remove(_KIND, entry["instance_uuid"])


def _stays(domain: Any) -> bool:
    """Whether libvirt had not seen the guest power off yet when it was told: then it is not going down, now that it has been told."""
    deadline = time.monotonic() + _GOING_DOWN
    while _domains.is_active(domain) and _domains.state_name(domain) == "shutdown" and time.monotonic() < deadline:
        time.sleep(0.05)
    return _domains.is_active(domain) and _lifecycle.on_poweroff(domain, live=True) == "restart"


def _supervise(state: StateDir, domain: Any) -> None:
    uri, key = domain.connect().getURI(), domain.UUIDString()
    _sessions.detach(lambda: watch(state, uri, key))


def watch(state: StateDir, uri: str, key: str) -> None:
    """Put the action back once the guest was reset."""
    _sessions.leave(f"kvmfleet-late-shutdown-{key}")
    while (entry := state.read(_KIND, key)) is not None:
        left = entry["since"] + PATIENCE - time.time()
        with contextlib.suppress(_binding.LibvirtError):
            was_reset = left > 0 and _lifecycle.wait_for_reset(uri, key, left)
            with _connection.connect(uri) as conn:
                if was_reset:
                    _reset(conn, state, entry)
                else:
                    settle(conn, state)
        time.sleep(1.0)  # libvirt was restarted


def _reset(conn: Any, state: StateDir, entry: Mapping[str, Any]) -> None:
    domain = _domains.find_domain(conn, entry["instance_uuid"])
    # Another run may have asked it again meanwhile.
    if state.read(_KIND, entry["instance_uuid"]) == entry and domain is not None and domain.ID() == entry["domain_id"]:
        _put_back(state, domain, entry)
