# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a guest takes, and how long its move is expected to take: enough to put guests into an order, and to tell people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.fleet.programme import Wants
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.planning.fleet import Fleet

_MIB, _GIB = 1024**2, 1024**3
_RATE = 100 * _MIB
"""Bytes a second, where no copy between two hosts has been timed yet."""
STEPS = 10.0
"""Seconds that the rest of a move takes."""
_DOWN = 60.0
"""Seconds that a shutdown and a boot take, where nobody knows."""


def wants(entry: Mapping[str, Any], asked: Mapping[str, Any] | None = None) -> Wants:
    """By what the host says of the guest, and, of one that can be moved, by the question for a place."""
    if asked is None:
        return Wants(entry.get("vcpus") or 0, int((entry.get("memory_mb") or 0) * _MIB), int((entry.get("disk_gb") or 0) * _GIB))
    flavor = asked["flavor"]
    disk_mb = 1024 * (flavor["disk"] + flavor.get("ephemeral", 0)) + flavor.get("swap", 0)
    return Wants(flavor["vcpus"], int(flavor["ram"] * _MIB), int(disk_mb * _MIB), int(asked["requirements"]["overlay_bytes"]))


def seconds(fleet: Fleet, host: str, destination: str, copy_bytes: int, running: bool, downtime: float | None) -> float:
    """How long a move from one host to another is expected to take.

    :param downtime: seconds that the guest was down the last time, or None.
    """
    rates = fleet.hosts[destination].get("copy_rates") or {}
    rate = rates.get(host)
    copying = copy_bytes / (rate if isinstance(rate, (int, float)) and rate > 0 else _RATE)
    return round(STEPS + copying + ((_DOWN if downtime is None else downtime) if running else 0.0), 1)
