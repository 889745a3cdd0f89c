# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Free memory."""

from __future__ import annotations

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.host_state import HostState
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.weighers.base import Weigher


class RAMWeigher(Weigher):
    """`memory_mb - memory_mb_used`: spreads guests; a negative multiplier stacks them."""

    minval = 0
    multiplier_key = "ram_weight_multiplier"

    def raw(self, host: HostState) -> float:
        memory = host.memory_mb
        return memory.total - memory.used
