# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Free disk."""

from __future__ import annotations

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.host_state import HostState
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.weighers.base import Weigher


class DiskWeigher(Weigher):
    """The smaller of what is not promised and `disk_available_least`, in MiB."""

    minval = 0
    multiplier_key = "disk_weight_multiplier"

    def raw(self, host: HostState) -> float:
        disk = host.disk_mb
        return disk.total - disk.used
