# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Another guest by the same name, or with something of which the host can have one."""

from __future__ import annotations

from ansible_collections.kvmfleet.compute.plugins.module_utils._rules import exclusive as _exclusive
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.context import Context
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.filters.base import Filter, Rejection
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.host_state import HostState
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.validation import mapping


class ConflictFilter(Filter):
    """No other domain of the host has the guest's name or UUID, and nobody there has what it wants to itself; the current host is meant to have them.

    The fact `exclusive` tells of guests, of claims and of the host itself; facts of an older release tell only the MAC addresses of guests.
    """

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        requirements = context.request.requirements
        self.wanted = _exclusive.wanted({"macs": requirements.macs, "exclusive": requirements.exclusive})
        self.kinds = {thing.kind for thing in self.wanted}

    def applies(self) -> bool:
        instance = self.context.request.instance
        return bool(instance.name or instance.uuid)

    def rejection(self, host: HostState) -> Rejection | None:
        instance = self.context.request.instance
        if host.name == instance.host:
            return None
        name, uuid = instance.name, instance.uuid
        for domain in host.mappings("domains"):
            if uuid and domain.get("uuid") == uuid:
                return self.reject("already_defined", f"defines a domain with the UUID {uuid} already ({domain.get('name')})", uuid)
            if name and domain.get("name") == name:
                return self.reject("already_defined", f"defines a domain called {name} already ({domain.get('uuid')})", name)
        found = _exclusive.conflicts(self.wanted, self._held(host)) if self.wanted else []
        if not found:
            return None
        same = [conflict for conflict in found if conflict.code == found[0].code]
        return self.reject(found[0].code, "; ".join(conflict.described for conflict in found), ", ".join(conflict.thing.value for conflict in same))

    def _held(self, host: HostState) -> _exclusive.Held:
        told = host.mapping("exclusive") or {}
        held = {kind: mapping(f"{host.path}.exclusive.{kind}", told.get(kind)) for kind in self.kinds}
        return {**held, _exclusive.MAC: dict.fromkeys(map(str.lower, host.texts("macs") or ()), "a guest")} if _exclusive.MAC in self.kinds else held
