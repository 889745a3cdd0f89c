# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Together with the other members of a server group."""

from __future__ import annotations

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.context import Context
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.filters.base import Filter, Rejection
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.fleet_state import FleetState
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.host_state import HostState


class ServerGroupAffinityFilter(Filter):
    """One of the hosts that have a member, where there is any; the guest that is to move does not hold itself back."""

    reads = frozenset({"server_group.affinity"})

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.hosts: frozenset[str] = frozenset()
        group = context.request.server_group
        if group.policy == "affinity":
            others = group.members - {context.request.instance.uuid}
            fleet = context.hosts
            self.hosts = frozenset(name for name, guests in zip(fleet.names, fleet.instances) if not others.isdisjoint(guests))
        self.where = ", ".join(sorted(self.hosts))
        self.reason = f"has no member of the server group, which is on {self.where}"

    def applies(self) -> bool:
        return bool(self.hosts)

    def rejections(self, fleet: FleetState) -> dict[int, Rejection]:
        return {row: self._away(name) for row, name in enumerate(fleet.names) if name not in self.hosts and row not in fleet.unknown}

    def rejection(self, host: HostState) -> Rejection | None:
        return None if host.name in self.hosts else self._away(host.name)

    def _away(self, name: str) -> Rejection:
        return self.reject("affinity", self.reason, self.where, name)
