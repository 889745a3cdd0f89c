# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether the guest may stay where it is."""

from __future__ import annotations

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.filters.base import Filter, Rejection
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.fleet_state import FleetState
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.host_state import HostState


class ResizeToSameHostFilter(Filter):
    """The current host is a destination only with `allow_resize_to_same_host`."""

    needs_facts = False

    def applies(self) -> bool:
        return not self.context.request.allow_resize_to_same_host

    def rejections(self, fleet: FleetState) -> dict[int, Rejection]:
        current = self.context.request.instance.host
        return self.asked(fleet, [fleet.rows[current]] if current in fleet.rows else ())

    def rejection(self, host: HostState) -> Rejection | None:
        if host.name != self.context.request.instance.host:
            return None
        return self.reject("same_host", "is the current host, and allow_resize_to_same_host is false")
