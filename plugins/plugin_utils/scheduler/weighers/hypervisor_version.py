# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Age of the hypervisor."""

from __future__ import annotations

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.host_state import HostState
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.weighers.base import Weigher


class HypervisorVersionWeigher(Weigher):
    """`hypervisor_version`: the newest QEMU first."""

    multiplier_key = "hypervisor_version_weight_multiplier"

    def raw(self, host: HostState) -> float:
        return host.count("hypervisor_version")
