# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Free vCPUs."""

from __future__ import annotations

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.host_state import HostState
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.weighers.base import Weigher


class CPUWeigher(Weigher):
    """`vcpus x cpu_allocation_ratio - vcpus_used`."""

    minval = 0
    multiplier_key = "cpu_weight_multiplier"

    def raw(self, host: HostState) -> float:
        vcpus = host.vcpus
        return vcpus.total * vcpus.ratio - vcpus.used
