# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Hosts that are taken out of use for a while."""

from __future__ import annotations

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.filters.base import Filter, Rejection
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.fleet_state import FleetState
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.host_state import HostState


class MaintenanceFilter(Filter):
    """The host has no `maintenance`, the reason why it is drained. A guest may leave such a host, never stay or come."""

    needs_facts = False

    def rejections(self, fleet: FleetState) -> dict[int, Rejection]:
        return self.asked(fleet, [row for row, why in enumerate(fleet.column("maintenance")) if why])

    def rejection(self, host: HostState) -> Rejection | None:
        why = host.facts.get("maintenance")
        if not why:
            return None
        return self.reject("maintenance", "is in maintenance" if why is True else f"is in maintenance: {why}")
