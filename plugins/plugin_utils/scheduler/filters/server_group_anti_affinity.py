# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Apart from the other members of a server group."""

from __future__ import annotations

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.filters.base import Filter, Rejection
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.fleet_state import FleetState
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.host_state import HostState


class ServerGroupAntiAffinityFilter(Filter):
    """Fewer than `max_server_per_host` members are on the host, or the guest itself is."""

    reads = frozenset({"server_group.anti-affinity"})

    def applies(self) -> bool:
        return self.context.request.server_group.policy == "anti-affinity"

    def rejections(self, fleet: FleetState) -> dict[int, Rejection]:
        members = self.context.request.server_group.members
        return self.asked(fleet, [row for row, guests in enumerate(fleet.instances) if not members.isdisjoint(guests)])

    def rejection(self, host: HostState) -> Rejection | None:
        request, instances = self.context.request, host.instances
        here = request.server_group.members.intersection(instances)
        limit = request.server_group.max_server_per_host
        if len(here) < limit or request.instance.uuid in instances:
            return None
        return self.reject("anti_affinity", f"has {len(here)} members of the server group, fewer than {limit} are allowed", f"fewer than {limit}", len(here))
