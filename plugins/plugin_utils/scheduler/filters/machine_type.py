# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The machine that the guest sees."""

from __future__ import annotations

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.filters.base import Filter, Rejection
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.host_state import HostState

_SHOWN = 4


class MachineTypeFilter(Filter):
    """The guest's machine type is one of `machine_types`, where the host lists any."""

    def applies(self) -> bool:
        return self.context.request.requirements.machine is not None

    def rejection(self, host: HostState) -> Rejection | None:
        machine = self.context.request.requirements.machine
        known = host.texts("machine_types")
        if not known or machine in known:
            return None
        kind = machine.rpartition("-")[0]
        alike = [name for name in known if name.rpartition("-")[0] == kind][-_SHOWN:]
        have = ", ".join(alike)
        return self.reject(
            "machine_type", f"does not know the machine type {machine}" + (f"; of its kind it knows {have}" if have else ""), machine, have or None
        )
