# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The networks that the guest is plugged into."""

from __future__ import annotations

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.context import Context
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.filters.base import Filter, Rejection
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.filters.names import local
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.host_state import HostState

_KINDS = {"networks": "libvirt network", "bridges": "bridge", "nwfilters": "network filter"}


class NetworkFilter(Filter):
    """The host has every network (active), bridge and network filter that the definition names; a kind that it does not list is left to the claim."""

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        needed = {key: getattr(context.request.requirements, key) for key in _KINDS}
        self.needed = {key: names for key, names in needed.items() if names}

    def applies(self) -> bool:
        return bool(self.needed)

    def rejection(self, host: HostState) -> Rejection | None:
        lacks = []
        for key, names in self.needed.items():
            listed = host.texts(key)
            if listed is not None:
                here = [local(self.context, host, key, name) for name in names]
                lacks += [f"{_KINDS[key]} {called}" for own, called in here if own not in listed]
        return self.reject("network", f"has no {', no '.join(lacks)}", ", ".join(lacks)) if lacks else None
