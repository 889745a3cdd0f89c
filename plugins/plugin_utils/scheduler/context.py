# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""All that one decision is made from."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.fleet_state import FleetState
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.host_state import HostState
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.options import Options
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.request import Request


@dataclass(frozen=True, slots=True)
class Context:
    """The request, the options and every host by name; filters and weighers are made for one context."""

    request: Request
    options: Options
    hosts: FleetState

    @classmethod
    def build(cls, hosts: object, request: object, scheduler: object) -> Context:
        """Read the three arguments; the current host is freed of the instance when a resize in place is asked for with its flavor in force."""
        options = Options.build(scheduler)
        return cls.over(FleetState.read(hosts, options), Request.build(request), options)

    @classmethod
    def over(cls, fleet: FleetState, asked: Request, options: Options) -> Context:
        """The same from a fleet that is read already."""
        if asked.allow_resize_to_same_host is None:
            asked = replace(asked, allow_resize_to_same_host=options.allow_resize_to_same_host)
        in_force = asked.instance.flavor
        if asked.allow_resize_to_same_host and in_force is not None and asked.instance.host in fleet.rows:
            fleet = fleet.crediting(asked.instance.host, in_force)
        return cls(request=asked, options=options, hosts=fleet)

    @property
    def current_host(self) -> HostState | None:
        """The host that the instance is on, when it is among the hosts."""
        return self.hosts.get(self.request.instance.host)
