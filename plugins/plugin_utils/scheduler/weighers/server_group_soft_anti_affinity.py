# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Apart from the other members of a server group, where possible."""

from __future__ import annotations

from collections.abc import Sequence

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.fleet_state import FleetState
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.weighers.server_group_soft_affinity import ServerGroupSoftAffinityWeigher


class ServerGroupSoftAntiAffinityWeigher(ServerGroupSoftAffinityWeigher):
    """How many members of the group are on the host, negated."""

    multiplier_key = "soft_anti_affinity_weight_multiplier"
    reads = frozenset({"server_group.soft-anti-affinity"})
    policy = "soft-anti-affinity"

    def raws(self, fleet: FleetState, rows: Sequence[int]) -> list[float]:
        return [-members for members in super().raws(fleet, rows)]
