# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""vCPUs, with overcommit."""

from __future__ import annotations

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.context import Context
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.filters.base import CapacityFilter


class CoreFilter(CapacityFilter):
    """`vcpus x cpu_allocation_ratio - vcpus_used >= flavor.vcpus`."""

    code = "vcpus"
    resource = "vcpus"
    unit = "vCPUs"

    def needed(self, context: Context) -> float:
        return context.request.flavor.vcpus
