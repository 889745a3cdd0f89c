# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The host that the guest is on."""

from __future__ import annotations

from collections.abc import Sequence

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.fleet_state import FleetState
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.weighers.base import ColumnWeigher


class SameHostWeigher(ColumnWeigher):
    """1 for the current host, 0 for the others: what staying is worth where `prefer_same_host` does not decide."""

    multiplier_key = "same_host_weight_multiplier"

    def raws(self, fleet: FleetState, rows: Sequence[int]) -> list[float]:
        return [float(fleet.names[row] == self.context.request.instance.host) for row in rows]
