# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Hosts that were tried already."""

from __future__ import annotations

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.context import Context
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.filters.base import Filter, Rejection
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.fleet_state import FleetState
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.host_state import HostState


class RetryFilter(Filter):
    """The host is not among `retry.hosts`."""

    needs_facts = False

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.tried = frozenset(context.request.retry)

    def applies(self) -> bool:
        return bool(self.tried)

    def rejections(self, fleet: FleetState) -> dict[int, Rejection]:
        return self.asked(fleet, [fleet.rows[name] for name in self.tried if name in fleet.rows])

    def rejection(self, host: HostState) -> Rejection | None:
        return self.reject("already_tried", "was tried already for this request") if host.name in self.tried else None
