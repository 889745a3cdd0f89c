# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Hosts that are busy building, copying or moving guests."""

from __future__ import annotations

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.filters.base import Filter, Rejection
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.host_state import HostState


class IoOpsFilter(Filter):
    """`num_io_ops < max_io_ops_per_host`."""

    def rejection(self, host: HostState) -> Rejection | None:
        limit = self.context.options.max_io_ops_per_host
        if host.num_io_ops < limit:
            return None
        return self.reject("io_ops", f"{host.num_io_ops} operations under way, fewer than {limit} are allowed", f"fewer than {limit}", host.num_io_ops)
