# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A guest that boots without KVM and gets no further: about one in a thousand, under load.

It waits for ever for an interrupt that QEMU's emulation has lost: it neither runs nor wants to. Or its virtual processors wait for each other, and run in
circles: they take all the time that they get, and nothing is read or written. A guest that is slow because others have the processors does neither.
"""

from __future__ import annotations

import re
import time

from ..host import Host

SECONDS = 20.0
"""Without running, or wanting to."""
IN_CIRCLES = 60.0
"""Seconds of all virtual processors together without any access to a disk. A boot takes some five between two of them."""
_LITTLE = 0.2
_INTERVAL = 2.0


class Standstill:
    """Tells that a guest gets no further."""

    def __init__(self, host: Host, guest: str) -> None:
        self._host, self._guest = host, guest
        self._looked = self._since = time.monotonic()
        self._busy = self._busy_at_access = 0.0
        self._accesses = -1

    def noticed(self) -> bool:
        now = time.monotonic()
        if now - self._looked < _INTERVAL:
            return False
        self._looked = now
        stats = self._host.virsh("domstats", self._guest, "--vcpu", "--block", check=False).stdout
        # Of all virtual processors together: running, and ready to run.
        busy = sum(map(int, re.findall(r"vcpu\.\d+\.(?:time|delay)=(\d+)", stats))) / 1e9
        running = sum(map(int, re.findall(r"vcpu\.\d+\.time=(\d+)", stats))) / 1e9
        accesses = sum(map(int, re.findall(r"block\.\d+\.(?:rd|wr|fl)\.reqs=(\d+)", stats)))
        if abs(busy - self._busy) > _LITTLE:
            self._busy, self._since = busy, now
        if accesses != self._accesses:
            self._accesses, self._busy_at_access = accesses, running
        return now - self._since > SECONDS or running - self._busy_at_access > IN_CIRCLES
