# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Together with the other members of a server group, where possible."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.fleet_state import FleetState
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.weighers.base import ColumnWeigher


class ServerGroupSoftAffinityWeigher(ColumnWeigher):
    """How many members of the group are on the host."""

    multiplier_key = "soft_affinity_weight_multiplier"
    may_be_negative = False
    reads = frozenset({"server_group.soft-affinity"})
    policy: ClassVar[str] = "soft-affinity"

    def applies(self) -> bool:
        return self.context.request.server_group.policy == self.policy

    def raws(self, fleet: FleetState, rows: Sequence[int]) -> list[float]:
        members = self.context.request.server_group.members
        return [len(members.intersection(fleet.instances[row])) for row in rows]
