# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Near a network address."""

from __future__ import annotations

import ipaddress

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.context import Context
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.filters.base import Filter, Rejection, hinted
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.host_state import HostState
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.validation import ValidationError


class SimpleCIDRAffinityFilter(Filter):
    """The host's `host_ip` is in the network that the hints `build_near_host_ip` and `cidr` (/24 unless told) make."""

    reads = frozenset({"scheduler_hints.build_near_host_ip"})

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        near, cidr = hinted(context, "build_near_host_ip"), hinted(context, "cidr") or ["/24"]
        text = f"{near[0]}{cidr[0]}" if near else None
        try:
            self.network = None if text is None else ipaddress.ip_network(text, strict=False)
        except ValueError as error:
            raise ValidationError("request.scheduler_hints.build_near_host_ip", text, "an address, with a prefix such as /24 in cidr") from error

    def applies(self) -> bool:
        return self.network is not None

    def rejection(self, host: HostState) -> Rejection | None:
        address = host.facts.get("host_ip")
        try:
            near = address is not None and ipaddress.ip_address(str(address)) in self.network
        except ValueError as error:
            raise ValidationError(f"{host.path}.host_ip", address, "an address") from error
        return None if near else self.reject("cidr", f"its address {address or '(unknown)'} is not in {self.network}", str(self.network), address)
