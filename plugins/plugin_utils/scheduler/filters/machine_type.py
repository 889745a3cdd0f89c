# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The machine that the guest sees."""

from __future__ import annotations

from ansible_collections.kvmfleet.compute.plugins.module_utils._rules import machine_types as _machine_types
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.filters.base import Filter, Rejection
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.host_state import HostState


class MachineTypeFilter(Filter):
    """The guest's machine type is one of `machine_types`, where the host lists any."""

    def applies(self) -> bool:
        return self.context.request.requirements.machine is not None

    def rejection(self, host: HostState) -> Rejection | None:
        machine = self.context.request.requirements.machine
        known = host.texts("machine_types")
        if not known or machine in known:
            return None
        reason, nearest = _machine_types.lacking(machine, known)
        return self.reject("machine_type", reason, machine, ", ".join(nearest) or None)
