# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Aggregates for certain images only."""

from __future__ import annotations

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.filters.base import Filter, Rejection
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.host_state import HostState


class AggregateImagePropertiesIsolation(Filter):
    """A property of the image that is also a metadata key of the host's aggregates has one of the values given there."""

    def applies(self) -> bool:
        return any(self.context.request.image.values())

    def rejection(self, host: HostState) -> Rejection | None:
        for name, value in self.context.request.image.items():
            allowed = host.metadata_values(name) if value and host.metadata else ()
            if allowed and value not in allowed:
                have = ", ".join(sorted(allowed))
                return self.reject("image_isolation", f"its aggregates are for images with {name} {have}, this one has {value}", value, have)
        return None
