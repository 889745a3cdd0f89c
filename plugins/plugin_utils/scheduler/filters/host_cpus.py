# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""CPUs and NUMA nodes of the host that the guest is bound to."""

from __future__ import annotations

from ansible_collections.kvmfleet.compute.plugins.module_utils._rules import host_cpus as _host_cpus
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.filters.base import Filter, Rejection
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.host_numa import host_cells
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.host_state import HostState


class HostCpusFilter(Filter):
    """The host has the CPUs and NUMA nodes that the definition names (`cpuset`, `nodeset`); one that does not tell is left to the claim."""

    def applies(self) -> bool:
        need = self.context.request.requirements.host_cpus
        return need is not None and any(need.values())

    def rejection(self, host: HostState) -> Rejection | None:
        need = self.context.request.requirements.host_cpus
        lacks = _host_cpus.missing([cell._asdict() for cell in host_cells(host)], need)
        return None if lacks is None else self.reject("host_cpus", f"the definition binds the guest to {lacks}", need)
