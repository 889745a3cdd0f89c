# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A guest that boots without KVM and stands still: about one in a thousand, under load, waits for ever for an interrupt that QEMU's emulation has lost.

It neither runs nor wants to, as opposed to one that is slow because others have the processors.
"""

from __future__ import annotations

import re
import time

from ..host import Host

SECONDS = 20.0
_LITTLE = 0.2
_INTERVAL = 2.0


class Standstill:
    """Tells once that a guest has neither run nor waited for a processor for a while."""

    def __init__(self, host: Host, guest: str) -> None:
        self._host, self._guest = host, guest
        self._looked = self._since = time.monotonic()
        self._busy = 0.0
        self._told = False

    def noticed(self) -> bool:
        now = time.monotonic()
        if self._told or now - self._looked < _INTERVAL:
            return False
        self._looked, busy = now, self._busy_seconds()
        if abs(busy - self._busy) > _LITTLE:
            self._busy, self._since = busy, now
        self._told = now - self._since > SECONDS
        return self._told

    def _busy_seconds(self) -> float:
        """Of all virtual processors together: running, and ready to run."""
        stats = self._host.virsh("domstats", self._guest, "--vcpu", check=False).stdout
        return sum(map(int, re.findall(r"vcpu\.\d+\.(?:time|delay)=(\d+)", stats))) / 1e9
