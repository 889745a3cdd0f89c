# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Hosts with PCI devices are kept for the guests that need them."""

from __future__ import annotations

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.filters.pci_passthrough import free_pools
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.host_state import HostState
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.weighers.base import Weigher

_MOST = 100


class PCIWeigher(Weigher):
    """`100 - free devices`, never below 1: few devices first, so that guests with devices stack and the others keep away."""

    multiplier_key = "pci_weight_multiplier"
    may_be_negative = False

    def raw(self, host: HostState) -> float:
        return _MOST - min(sum(pool["count"] for pool in free_pools(host)), _MOST - 1)
