# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Memory, with overcommit."""

from __future__ import annotations

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.context import Context
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.filters.base import CapacityFilter


class RamFilter(CapacityFilter):
    """`memory_mb x ram_allocation_ratio - memory_mb_used >= flavor.ram`."""

    code = "ram"
    resource = "memory_mb"
    unit = "MB"

    def needed(self, context: Context) -> float:
        return context.request.flavor.ram
