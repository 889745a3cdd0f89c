# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Racks: keep a guest off the racks that its flavor names, and prefer racks that draw little power."""

from __future__ import annotations

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.filters.base import Filter, Rejection
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.host_state import HostState
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.weighers.base import Weigher


class RackFilter(Filter):
    """The host's `rack` is not among the extra spec `acme:not_in_racks`, a list with commas."""

    def __init__(self, context):
        super().__init__(context)
        self.avoided = context.request.flavor.extra_specs.get("acme:not_in_racks", "").split(",")

    def rejection(self, host: HostState) -> Rejection | None:
        rack = host.facts["rack"]
        if rack not in self.avoided:
            return None
        return self.reject("rack_avoided", f"is in rack {rack}, which the flavor avoids", f"none of {', '.join(self.avoided)}", rack)


class RackPowerWeigher(Weigher):
    """`rack_watts`; give it a negative multiplier."""

    multiplier_key = "rack_power_weight_multiplier"

    def raw(self, host: HostState) -> float:
        return host.facts["rack_watts"]
