# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Together with the other members of a server group, where possible."""

from __future__ import annotations

from typing import ClassVar

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.host_state import HostState
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.weighers.base import Weigher


class ServerGroupSoftAffinityWeigher(Weigher):
    """How many members of the group are on the host."""

    multiplier_key = "soft_affinity_weight_multiplier"
    may_be_negative = False
    reads = frozenset({"server_group.soft-affinity"})
    policy: ClassVar[str] = "soft-affinity"

    def applies(self) -> bool:
        return self.context.request.server_group.policy == self.policy

    def raw(self, host: HostState) -> float:
        return len(self.context.request.server_group.members.intersection(host.instances))
