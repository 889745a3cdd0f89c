# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Hosts where moves went wrong."""

from __future__ import annotations

from collections.abc import Sequence

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.fleet_state import FleetState
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.weighers.base import ColumnWeigher


class BuildFailureWeigher(ColumnWeigher):
    """`failed_builds`, the moves to the host that ended in an error since the last success; the multiplier says how much worse they make a host."""

    multiplier_key = "build_failure_weight_multiplier"
    sign = -1

    def raws(self, fleet: FleetState, rows: Sequence[int]) -> list[float]:
        return fleet.counts("failed_builds", rows)
