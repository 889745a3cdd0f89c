# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Hosts that are taken out of use for a while."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.filters.base import Filter, Rejection
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.fleet_state import FleetState
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.host_state import HostState


def closed(maintenance: Any) -> str | None:
    """Why a host is closed for guests that come, by its fact `maintenance`: what the inventory says (a text or true), or its own record of a drain."""
    if not maintenance:
        return None
    if isinstance(maintenance, Mapping):
        who = f" by {maintenance['by']}" if maintenance.get("by") else ""
        return f"is {maintenance.get('state') or 'closed'}{who}: {maintenance.get('reason') or 'no reason is noted'}"
    return "is in maintenance" if maintenance is True else f"is in maintenance: {maintenance}"


class MaintenanceFilter(Filter):
    """The host has no `maintenance`, the reason why it is drained. A guest may leave such a host, never stay or come.

    Who may come to one that is being restored, its own lock knows.
    """

    needs_facts = False

    def rejections(self, fleet: FleetState) -> dict[int, Rejection]:
        return self.asked(fleet, [row for row, why in enumerate(fleet.column("maintenance")) if why])

    def rejection(self, host: HostState) -> Rejection | None:
        told = host.facts.get("maintenance")
        why = None if isinstance(told, Mapping) and told.get("state") == "restoring" else closed(told)
        return None if why is None else self.reject("maintenance", why)
