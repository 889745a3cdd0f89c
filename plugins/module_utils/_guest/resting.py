# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A guest that is shut down for the maintenance of its host does not start with the host, until it is started again by who ends the maintenance."""

from __future__ import annotations

from typing import Any

from .._journal.state_dir import StateDir
from .._libvirt import domains as _domains
from .._rules.errors import KvmfleetError
from . import power as _power

_KIND = "resting"
"""A file for each such guest that started with the host."""


def lay_down(domain: Any, state: StateDir, shutdown: dict[str, Any]) -> bool:
    """Shut the guest down; whether that changed anything.

    :param shutdown: keyword arguments of `_guest.power.stop`.
    :raises KvmfleetError: `not_persistent`, and those of `_guest.power.stop`; the guest runs then, and starts with the host as before.
    """
    if not domain.isPersistent():
        raise KvmfleetError("not_persistent", f"{domain.name()} is not defined and would vanish when it stops. Define it first.", instance=domain.name())
    stopped = _power.stop(domain, state, **shutdown)
    starts = bool(domain.autostart())
    if starts:
        state.write(_KIND, domain.UUIDString(), {"instance": domain.name()})
        _domains.set_autostart(domain, False)
    return bool(stopped["was_running"] or starts)


def wake(domain: Any, state: StateDir) -> bool:
    """Start the guest, and let it start with the host if it did; whether that changed anything."""
    started = not _domains.is_active(domain)
    _power.start(domain)
    starts = state.read(_KIND, domain.UUIDString()) is not None
    if starts:
        _domains.set_autostart(domain, True)
        state.remove(_KIND, domain.UUIDString())
    return started or starts
