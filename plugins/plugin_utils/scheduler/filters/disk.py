# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Disk, by promise and by what the sparse images leave."""

from __future__ import annotations

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.context import Context
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.filters.base import CapacityFilter


class DiskFilter(CapacityFilter):
    """`local_gb x disk_allocation_ratio - (local_gb - min(free, disk_available_least)) >= disk + ephemeral + swap`, in MB."""

    code = "disk"
    resource = "disk_mb"
    unit = "MB"

    def needed(self, context: Context) -> float:
        return context.request.flavor.disk_mb
