# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Hosts that cannot take a guest, or must not."""

from __future__ import annotations

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.filters.base import Filter, Rejection
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.fleet_state import FleetState
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.host_state import HostState


class ComputeFilter(Filter):
    """`enabled` and `up`. A guest may leave a disabled host, never stay or come."""

    needs_facts = False

    def rejections(self, fleet: FleetState) -> dict[int, Rejection]:
        return self.asked(fleet, [row for row, (enabled, up) in enumerate(zip(fleet.enabled, fleet.up)) if not (enabled and up)])

    def rejection(self, host: HostState) -> Rejection | None:
        if not host.enabled:
            return self.reject("disabled", "is disabled" if host.up else "is disabled and down")
        if not host.up:
            return self.reject("down", "is down or did not answer")
        return None
