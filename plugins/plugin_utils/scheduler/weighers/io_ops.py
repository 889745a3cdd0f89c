# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Load."""

from __future__ import annotations

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.host_state import HostState
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.weighers.base import Weigher


class IoOpsWeigher(Weigher):
    """`num_io_ops`; a negative multiplier prefers hosts that are idle."""

    minval = 0
    multiplier_key = "io_ops_weight_multiplier"

    def raw(self, host: HostState) -> float:
        return host.num_io_ops
