# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Hosts that the caller excluded."""

from __future__ import annotations

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.context import Context
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.filters.base import Filter, Rejection
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.fleet_state import FleetState
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.host_state import HostState


class IgnoreHostsFilter(Filter):
    """The host is not among `ignore_hosts`; case does not matter."""

    needs_facts = False

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.ignored = frozenset(host.lower() for host in context.request.ignore_hosts)

    def applies(self) -> bool:
        return bool(self.ignored)

    def rejections(self, fleet: FleetState) -> dict[int, Rejection]:
        return self.asked(fleet, [row for row, name in enumerate(fleet.names) if name.lower() in self.ignored])

    def rejection(self, host: HostState) -> Rejection | None:
        return self.reject("ignored_host", "is one of ignore_hosts") if host.name.lower() in self.ignored else None
