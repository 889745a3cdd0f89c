# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Another guest by the same name."""

from __future__ import annotations

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.filters.base import Filter, Rejection
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.host_state import HostState


class ConflictFilter(Filter):
    """No other domain of the host has the guest's name, UUID or one of its MAC addresses; the current host is meant to have them."""

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
        macs = sorted(set(self.context.request.requirements.macs).intersection(host.texts("macs") or ()))
        return self.reject("mac_in_use", f"has a guest with the MAC address {', '.join(macs)}", ", ".join(macs)) if macs else None
