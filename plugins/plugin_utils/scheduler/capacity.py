# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How many more guests of one flavor there is room for."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.context import Context
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.host_state import HostState
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.loaded_fleet import LoadedFleet, charged
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.options import Options
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.registry import filters_for
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.request import ANY_ZONE, Request

MOST = 2**20


def count_fitting(hosts: object, request: object, scheduler: object = None) -> dict[str, Any]:
    """How many guests like that of a request fit, on each host and in each zone, beside all that is there.

    Every enabled filter is asked; the zone, unless the request names one, is left open, and so is the guest's own host. A filter has to refuse
    the more guests the rather.

    :return: `guests`, `zones` {zone: {guests, hosts}} and `hosts` {host: guests}; hosts that take none are left out of `hosts`.
    """
    options = Options.build(scheduler)
    asked = Request.build(request)
    asked = replace(asked, instance=replace(asked.instance, host=None, flavor=None, uuid=None), availability_zone=asked.availability_zone or ANY_ZONE)
    fleet = LoadedFleet(hosts, options)
    context = fleet.context(asked)
    rooms = {state.name: _room(state, context) for state in fleet.hosts.values()}
    zones: dict[str, dict[str, int]] = {}
    for state in fleet.hosts.values():
        zone = zones.setdefault(state.availability_zone, {"guests": 0, "hosts": 0})
        zone["guests"] += rooms[state.name]
        zone["hosts"] += rooms[state.name] > 0
    return {"guests": sum(rooms.values()), "zones": zones, "hosts": {name: room for name, room in rooms.items() if room}}


def _room(state: HostState, context: Context) -> int:
    """The greatest number of guests of which the last still fits: doubled until one does not, then halved into."""
    filters = [item for item in filters_for(context) if item.applies()]

    def takes(guests: int) -> bool:
        before = state if guests == 1 else charged(state, context.request, context.options, guests - 1)
        return all(item.rejection(before) is None for item in filters if before.known or not item.needs_facts)

    if not takes(1):
        return 0
    low, high = 1, 2
    while high <= MOST and takes(high):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if takes(middle) else (low, middle)
    return low
