# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Free disk."""

from __future__ import annotations

from collections.abc import Sequence

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.fleet_state import FleetState
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.weighers.base import ColumnWeigher


class DiskWeigher(ColumnWeigher):
    """The smaller of what is not promised and `disk_available_least`, in MiB."""

    minval = 0
    multiplier_key = "disk_weight_multiplier"

    def raws(self, fleet: FleetState, rows: Sequence[int]) -> list[float]:
        total, used = fleet.disk_mb.total, fleet.disk_mb.used
        return [total[row] - used[row] for row in rows]
