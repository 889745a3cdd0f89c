# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Together with the other members of a server group."""

from __future__ import annotations

from collections.abc import Sequence

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.context import Context
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.filters.base import Filter, Rejection
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
            self.hosts = frozenset(host.name for host in context.hosts.values() if not others.isdisjoint(host.instances))
        self.where = ", ".join(sorted(self.hosts))

    def applies(self) -> bool:
        return bool(self.hosts)

    def suspects(self, hosts: Sequence[HostState]) -> Sequence[HostState]:
        return [host for host in hosts if host.name not in self.hosts]

    def rejection(self, host: HostState) -> Rejection | None:
        if host.name in self.hosts:
            return None
        return self.reject("affinity", f"has no member of the server group, which is on {self.where}", self.where, host.name)
