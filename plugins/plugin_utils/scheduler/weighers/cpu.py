# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Free vCPUs."""

from __future__ import annotations

from collections.abc import Sequence

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.fleet_state import FleetState
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.weighers.base import ColumnWeigher


class CPUWeigher(ColumnWeigher):
    """`vcpus x cpu_allocation_ratio - vcpus_used`."""

    minval = 0
    multiplier_key = "cpu_weight_multiplier"

    def raws(self, fleet: FleetState, rows: Sequence[int]) -> list[float]:
        total, used, ratio = fleet.vcpus.total, fleet.vcpus.used, fleet.vcpus.ratio
        return [total[row] * ratio[row] - used[row] for row in rows]
