# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Start a guest, cut its power, ask it to shut down, and say what libvirt does when it powers off."""

from __future__ import annotations

import contextlib
import json
import time
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from typing import Any

from .._system.watchdog import patience
from . import definitions as _definitions, guest_agent as _guest_agent
from .binding import LibvirtError, libvirt, libvirt_qemu, unless

_SHUTDOWN_SILENCE = 2  # seconds
_KIB_A_SECOND = 1024 * 1024  # of a guest's memory, which QEMU may have to fill before it starts


def create(domain: Any) -> None:
    with patience(domain.maxMemory() / _KIB_A_SECOND):
        domain.create()


def destroy(domain: Any) -> None:
    """Cut the power; a domain that went off meanwhile is fine."""
    unless(libvirt.VIR_ERR_OPERATION_INVALID, domain.destroy)


def on_poweroff(domain: Any, *, live: bool) -> str:
    """What libvirt does when the guest powers off, now or from its next start on: destroy (it is off then) or restart."""
    root = ET.fromstring(_definitions.live_xml(domain) if live else _definitions.inactive_xml(domain, secure=False))  # noqa: S314 - libvirt wrote it
    return root.findtext("on_poweroff") or "destroy"


def set_on_poweroff(domain: Any, action: str) -> None:
    """Let libvirt do that when the guest that runs now powers off; its definition stays."""
    wanted = {"destroy": libvirt.VIR_DOMAIN_LIFECYCLE_ACTION_DESTROY, "restart": libvirt.VIR_DOMAIN_LIFECYCLE_ACTION_RESTART}[action]
    domain.setLifecycleAction(libvirt.VIR_DOMAIN_LIFECYCLE_POWEROFF, wanted, libvirt.VIR_DOMAIN_AFFECT_LIVE)


def wait_for_reset(uri: str, key: str, seconds: float) -> bool:
    """Wait until the guest was reset, which this tells, or went off, its libvirt is gone, or so many seconds are over.

    Only for a process that does nothing else.
    """
    libvirt.virEventRegisterDefaultImpl()
    connection = libvirt.open(uri)
    domain = connection.lookupByUUIDString(key)
    seen: list[Any] = []
    connection.setKeepAlive(5, 3)
    connection.domainEventRegisterAny(domain, libvirt.VIR_DOMAIN_EVENT_ID_REBOOT, lambda *event: seen.append(event), None)
    libvirt.virEventAddTimeout(1000, lambda timer, opaque: None, None)
    deadline = time.monotonic() + seconds
    while not seen and connection.isAlive() and domain.isActive() and time.monotonic() < deadline:
        libvirt.virEventRunDefaultImpl()
    return bool(seen)


def request_shutdown(domain: Any, modes: Sequence[str]) -> str | None:
    """Ask the guest to shut down through the first mode (agent, acpi) that there is; None where there is none. Does not wait for the guest."""
    requests = {"agent": _shut_down_through_agent, "acpi": _press_power_button}
    return next((mode for mode in modes if requests[mode](domain)), None)


def _shut_down_through_agent(domain: Any) -> bool:
    # Not domain.shutdownFlags: that waits up to a minute for a guest which the agent cannot shut down.
    if libvirt_qemu is None or not _guest_agent.agent_answers(domain):
        return False
    # The agent that just answered never replies to this command: it ends in silence or with the guest.
    with contextlib.suppress(LibvirtError):
        libvirt_qemu.qemuAgentCommand(domain, json.dumps({"execute": "guest-shutdown"}), _SHUTDOWN_SILENCE, 0)
    return True


def _press_power_button(domain: Any) -> bool:
    try:
        domain.shutdownFlags(libvirt.VIR_DOMAIN_SHUTDOWN_ACPI_POWER_BTN)
    except LibvirtError:
        return False
    return True
