# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""CPU shares that the host's cgroups can hold."""

from __future__ import annotations

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.filters.base import Filter, Rejection
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.host_state import HostState

_LIMITS = {1: (2, 262144), 2: (1, 10000)}


class CpuSharesFilter(Filter):
    """`<shares>` of the definition is within what the host's cgroup version takes: libvirt refuses to start the guest otherwise."""

    def applies(self) -> bool:
        return self.context.request.requirements.cpu_shares is not None

    def rejection(self, host: HostState) -> Rejection | None:
        shares, version = self.context.request.requirements.cpu_shares, host.count("cgroup_version")
        if version not in _LIMITS:
            return None
        low, high = _LIMITS[version]
        if low <= shares <= high:
            return None
        reason = f"has cgroups of version {version}, which hold {low} to {high} CPU shares; the guest has {shares}"
        return self.reject("cpu_shares", reason, shares, f"{low} to {high}")
