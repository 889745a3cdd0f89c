# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The zone sticks."""

from __future__ import annotations

from functools import cache

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.context import Context
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.filters.base import Filter, Rejection
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.fleet_state import FleetState
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.host_state import HostState
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.request import ANY_ZONE


class AvailabilityZoneFilter(Filter):
    """The requested zone, else the zone of the instance's current host; `any` opens every zone.

    What the instance was created with does not matter. An instance that is on no host yet has no zone to stay in. One whose host is not
    among the hosts has, but nobody knows which: every host is refused until a zone is named.
    """

    needs_facts = False

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        requested, instance, current = context.request.availability_zone, context.request.instance, context.current_host
        self.unknown = requested is None and instance.host is not None and current is None
        if requested is not None:
            self.zone = None if requested == ANY_ZONE else requested
            self.why = f"zone {requested} was requested"
        else:
            self.zone = current.availability_zone if current else None
            self.why = f"the guest stays in zone {self.zone} of its current host {instance.host}"
        self._other = cache(lambda zone: self.reject("other_zone", f"is in zone {zone}; {self.why}", self.zone, zone))

    def applies(self) -> bool:
        return self.unknown or self.zone is not None

    def rejections(self, fleet: FleetState) -> dict[int, Rejection]:
        if self.unknown:
            return super().rejections(fleet)
        refused: dict[int, Rejection] = {}
        for zone, rows in fleet.in_zone.items():
            if zone != self.zone:
                refused |= dict.fromkeys(rows, self._other(zone))
        return refused

    def rejection(self, host: HostState) -> Rejection | None:
        if self.unknown:
            reason = f"the zone to stay in is unknown: current host {self.context.request.instance.host} is not among the hosts; name a zone or '{ANY_ZONE}'"
            return self.reject("zone_unknown", reason, None, host.availability_zone)
        if host.availability_zone == self.zone:
            return None
        return self._other(host.availability_zone)
