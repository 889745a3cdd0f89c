# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Age of the hypervisor."""

from __future__ import annotations

from collections.abc import Sequence

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.fleet_state import FleetState
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.weighers.base import ColumnWeigher


class HypervisorVersionWeigher(ColumnWeigher):
    """`hypervisor_version`: the newest QEMU first."""

    multiplier_key = "hypervisor_version_weight_multiplier"

    def raws(self, fleet: FleetState, rows: Sequence[int]) -> list[float]:
        return fleet.counts("hypervisor_version", rows)
