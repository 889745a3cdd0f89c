# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Memory, with the overcommit of the host's aggregate."""

from __future__ import annotations

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.filters.base import overcommitted
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.filters.ram import RamFilter
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.host_state import Capacity, HostState


class AggregateRamFilter(RamFilter):
    """As RamFilter; the lowest `ram_allocation_ratio` of the host's aggregates wins over the host's own."""

    def capacity(self, host: HostState) -> Capacity | None:
        return overcommitted(super().capacity(host), host.metadata_min("ram_allocation_ratio", above=0))
