# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Hosts kept for certain images."""

from __future__ import annotations

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.context import Context
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.filters.base import Filter, Rejection
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.host_state import HostState


class IsolatedHostsFilter(Filter):
    """An image of `isolated_images` goes to a host of `isolated_hosts`, and, while these are restricted to such images, no other image does."""

    needs_facts = False

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        options, image = context.options, context.request.image_id
        self.hosts = frozenset(options.isolated_hosts)
        self.image_isolated = image in options.isolated_images
        self.restricted = options.restrict_isolated_hosts_to_isolated_images

    def rejection(self, host: HostState) -> Rejection | None:
        if self.image_isolated and host.name not in self.hosts:
            return self.reject("isolated_image", f"is not one of the hosts for isolated images, as {self.context.request.image_id} is")
        if self.restricted and not self.image_isolated and host.name in self.hosts:
            return self.reject("isolated_host", "is kept for isolated images")
        return None
