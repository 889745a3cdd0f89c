# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Guests on the host."""

from __future__ import annotations

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.host_state import HostState
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.weighers.base import Weigher


class NumInstancesWeigher(Weigher):
    """`num_instances`; a positive multiplier stacks guests, a negative one spreads them."""

    multiplier_key = "num_instances_weight_multiplier"

    def raw(self, host: HostState) -> float:
        return host.num_instances
