# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Free memory."""

from __future__ import annotations

from collections.abc import Sequence

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.fleet_state import FleetState
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.weighers.base import ColumnWeigher


class RAMWeigher(ColumnWeigher):
    """`memory_mb - memory_mb_used`: spreads guests; a negative multiplier stacks them."""

    minval = 0
    multiplier_key = "ram_weight_multiplier"

    def raws(self, fleet: FleetState, rows: Sequence[int]) -> list[float]:
        total, used = fleet.memory_mb.total, fleet.memory_mb.used
        return [total[row] - used[row] for row in rows]
