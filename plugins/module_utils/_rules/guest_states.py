# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How a guest can be asked to shut down, and the states in which it cannot be."""

from __future__ import annotations

from types import MappingProxyType

SHUTDOWN_MODES = ("agent", "acpi")
"""By its agent or by its power button."""

WAYS_OUT = MappingProxyType(
    {
        "paused": "A move would lose what it has in memory: resume it (virsh resume) or shut it down first.",
        "pmsuspended": "It sleeps, and a move would lose what it has in memory: wake it first (virsh dompmwakeup).",
        "crashed": "Its on_crash action keeps it as it crashed, which a move would lose: reset it (virsh reset) or cut its power (virsh destroy) first.",
        "shutdown": "It is shutting down: wait until it is off.",
    }
)
"""States in which a guest has something in memory and cannot be shut down: libvirt's word for the state -> what to do with the guest."""
