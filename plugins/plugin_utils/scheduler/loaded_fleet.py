# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A fleet with guests added to it: what the next decision sees after the one before."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler import arrivals
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.context import Context
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.fleet_state import FleetState
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.host_state import HostState
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.options import Options
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.request import Flavor, Request


class LoadedFleet:
    """Host states that take claims. The facts given are not changed.

    A guest that moves is charged at its destination and stays charged at its source, as it is until its move is confirmed. Only a resize in
    place gives the old flavor back. Operations under way are not counted up: a batch is carried out over time.
    """

    def __init__(self, hosts: object, options: Options) -> None:
        self.options = options
        self.hosts = FleetState.read(hosts, options)

    def copy(self) -> LoadedFleet:
        """Another one with the same claims, which takes its own from now on."""
        other = object.__new__(LoadedFleet)
        other.options, other.hosts = self.options, self.hosts
        return other

    def context(self, request: Request) -> Context:
        """What a decision about a request is made from now."""
        return Context.over(self.hosts, request, self.options)

    def claim(self, host: str, request: Request, count: int = 1) -> None:
        """Charge a host with the guest of a request, `count` times over."""
        in_place = host == request.instance.host and request.instance.flavor is not None
        freed = request.instance.flavor if in_place else None
        self.hosts = self.hosts.replacing(charged(self.hosts[host], request, self.options, count, freed))

    def release(self, host: str, uuid: str, flavor: Flavor) -> None:
        """Take the charge of a guest off a host: its operation was confirmed, so that it is nowhere but where it has gone."""
        facts = self.hosts[host].facts
        keys = {"vcpus_used": flavor.vcpus, "memory_mb_used": flavor.ram, "local_gb_used": flavor.disk_mb / 1024}
        least = facts.get("disk_available_least")
        freed = {
            **{key: max(0, float(facts[key]) - amount) for key, amount in keys.items()},
            "disk_available_least": None if least is None else float(least) + flavor.disk_mb / 1024,
            "num_instances": max(0, self.hosts[host].num_instances - 1),
            "instances": [each for each in facts.get("instances") or () if each != uuid],
            **_without_claims(facts, uuid),
        }
        self.hosts = self.hosts.replacing(FleetState.read([{**facts, **freed}], self.options).host(0))

    def usage(self, names: Iterable[str]) -> dict[str, dict[str, Any]]:
        """What these hosts are charged with."""
        keys = ("vcpus_used", "memory_mb_used", "local_gb_used")
        return {name: {key: self.hosts[name].facts[key] for key in keys} for name in names}


def _without_claims(facts: Mapping[str, Any], uuid: str) -> dict[str, Any]:
    """The claims of a host without those of a guest, and what is held there without what these hold."""
    claims = [claim for claim in facts.get("claims") or () if isinstance(claim, Mapping)]
    gone = [claim for claim in claims if claim.get("instance_uuid") == uuid]
    held = {(kind, str(value)) for claim in gone for kind, values in (claim.get("exclusive") or {}).items() for value in values}
    told = facts.get("exclusive") or {}
    return {
        "claims": [claim for claim in claims if claim.get("instance_uuid") != uuid],
        "exclusive": {kind: {value: who for value, who in things.items() if (kind, str(value)) not in held} for kind, things in told.items()},
    }


def charged(state: HostState, request: Request, options: Options, count: int = 1, freed: Flavor | None = None) -> HostState:
    """The host with the flavor of a request taken `count` times, less what is freed."""
    facts: Mapping[str, Any] = state.facts
    flavor = request.flavor
    disk_gb = (flavor.disk_mb * count - (freed.disk_mb if freed else 0)) / 1024
    guests = [request.instance.uuid] if request.instance.uuid and request.instance.uuid not in (facts.get("instances") or ()) else []
    least, free = facts.get("disk_available_least"), facts.get("disk_free_mb")
    needs = request.requirements
    bases = [base for base in needs.bases if base.sha256 not in (facts.get("bases") or ())]
    coming = (needs.overlay_bytes + needs.growth_bytes) / 2**20 * count + sum(base.size_bytes for base in bases) / 2**20
    taken = {
        "vcpus_used": _after(state.vcpus.used, flavor.vcpus * count, freed.vcpus if freed else 0),
        "memory_mb_used": _after(state.memory_mb.used, flavor.ram * count, freed.ram if freed else 0),
        "local_gb_used": _after(float(facts["local_gb_used"]), disk_gb, 0),
        "disk_available_least": None if least is None else float(least) - disk_gb,
        "disk_free_mb": None if free is None else max(0.0, float(free) - coming),
        "bases": [*(facts.get("bases") or ()), *(base.sha256 for base in bases)],
        "num_instances": state.num_instances + (0 if freed else count),
        "instances": [*(facts.get("instances") or ()), *guests],
        **(arrivals.brought(facts, request) if guests and not freed else {}),
    }
    return FleetState.read([{**facts, **taken}], options, first=state.fleet.first + state.row).host(0)


def _after(used: float, taken: float, freed: float) -> float:
    return max(0, used - freed) + taken
