# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The networks that the guest is plugged into."""

from __future__ import annotations

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.filters.base import Filter, Rejection
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.host_state import HostState
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.validation import sequence

_KINDS = {"networks": "libvirt network", "bridges": "bridge", "nwfilters": "network filter"}


class NetworkFilter(Filter):
    """The host has every network (active), bridge and network filter that the definition names; a kind that it does not list is left to the claim."""

    def applies(self) -> bool:
        return any(getattr(self.context.request.requirements, key) for key in _KINDS)

    def rejection(self, host: HostState) -> Rejection | None:
        lacks = []
        for key, what in _KINDS.items():
            wanted, listed = getattr(self.context.request.requirements, key), host.facts.get(key)
            if wanted and listed is not None:
                lacks += [f"{what} {name}" for name in wanted if name not in sequence(f"{host.path}.{key}", listed)]
        return self.reject("network", f"has no {', no '.join(lacks)}", ", ".join(lacks)) if lacks else None
