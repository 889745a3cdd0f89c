# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Aggregates for certain flavors only."""

from __future__ import annotations

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.filters.base import Filter, Rejection
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.host_state import HostState


class AggregateTypeAffinityFilter(Filter):
    """The name of the flavor is in the metadata key `instance_type` of one of the host's aggregates, where any has that key."""

    def rejection(self, host: HostState) -> Rejection | None:
        allowed, flavor = host.metadata_values("instance_type"), self.context.request.flavor.name
        if not allowed or flavor in allowed:
            return None
        have = ", ".join(sorted(allowed))
        return self.reject("flavor_isolation", f"its aggregates are for the flavors {have}, not for {flavor or 'a flavor without name'}", flavor, have)
