# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a plan takes from the facts and the variables of its hosts, for each candidate: addresses, limits, directories, sources of base images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

from ansible_collections.kvmfleet.compute.plugins.module_utils._rules.host_facts import HostFacts
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.given.of_host import address_of, given_for
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.planning.bases import base_sources
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.planning.plan import MOVE, AtSource, ForHost, Plan

_LIMIT = "kvmfleet_migration_bandwidth_limit"


class Given(TypedDict):
    """What the caller of a move gave."""

    image_directories: list[str]
    bandwidth_limit: int
    image_store_url: str
    """Empty where there is none."""


def completed(plan: Plan, facts: Sequence[HostFacts], hostvars: Mapping[str, Any], given: Given) -> Plan:
    """A plan that knows all that its tasks need of the hosts; one with nothing to do needs nothing.

    :raises KvmfleetError: `invalid_value`, for a variable of one of its hosts.
    """
    if plan["record"] is None:
        return plan
    known = {str(host["host"]): host for host in facts}
    needed: dict[str, ForHost] = {
        name: {
            **decided,
            **_of_facts(known[name]),
            "image_directories": _directories(hostvars, name, given),
            **(_of_a_move(plan, name, known[name], facts, hostvars, given) if plan["action"] == MOVE else {}),
        }
        for name, decided in plan["for"].items()
    }
    at_source: AtSource = {
        "image_directories": _directories(hostvars, plan["source"], given),
        "max_moves": given_for(hostvars, plan["source"], "kvmfleet_max_moves_out"),
    }
    return {**plan, "for": needed, "at_source": at_source}


def lowest(*limits: int) -> int:
    """All of them hold, so the lowest does; 0 is none."""
    return min((limit for limit in limits if limit), default=0)


def _of_facts(host: HostFacts) -> ForHost:
    return {"images_path": host.get("images_path") or "", "reserved": host.get("reserved") or {}, "cpu_dedicated_set": host.get("cpu_dedicated_set") or ""}


def _of_a_move(plan: Plan, name: str, host: HostFacts, facts: Sequence[HostFacts], hostvars: Mapping[str, Any], given: Given) -> ForHost:
    """What counts only where the guest comes from another host."""
    source = plan["source"]
    return {
        "max_moves": given_for(hostvars, name, "kvmfleet_max_moves_in"),
        "outdated": _outdated(hostvars, name, host),
        "source_address": address_of(hostvars, source),
        "peer": given_for(hostvars, name, "kvmfleet_migration_peer"),
        "bandwidth_limit": lowest(given["bandwidth_limit"], given_for(hostvars, source, _LIMIT), given_for(hostvars, name, _LIMIT)),
        "base_sources": _base_sources(plan, name, facts, hostvars, given),
    }


def _directories(hostvars: Mapping[str, Any], name: str, given: Given) -> list[str]:
    further = given_for(hostvars, name, "kvmfleet_disk_directories").values()
    return list(dict.fromkeys([*given["image_directories"], *further]))


def _outdated(hostvars: Mapping[str, Any], name: str, host: HostFacts) -> list[str]:
    """A claim knows everything of its host but what the inventory says about it, so that is compared with its facts."""
    told = {
        "kvmfleet_zone": host.get("availability_zone") or "",
        "kvmfleet_enabled": host.get("enabled", True),
        "kvmfleet_maintenance": host.get("maintenance_told") or "",
    }
    return [variable for variable, value in told.items() if given_for(hostvars, name, variable) != value]


def _base_sources(plan: Plan, name: str, facts: Sequence[HostFacts], hostvars: Mapping[str, Any], given: Given) -> list[dict[str, Any]]:
    bases: dict[str, dict[str, Any]] = {}
    for disk in (plan["record"] or {"disks": []})["disks"]:
        for base in disk["bases"]:
            bases.setdefault(base["sha256"], base)
    found = base_sources(facts, list(bases.values()), plan["source"], name, given["image_store_url"] or None)
    return [
        {
            **one,
            "name": one["host"] or one["url"].split("?")[0],
            "address": address_of(hostvars, one["host"]) if one["host"] else None,
            "bandwidth_limit": lowest(given["bandwidth_limit"], given_for(hostvars, one["host"] or name, _LIMIT), given_for(hostvars, name, _LIMIT)),
        }
        for one in found
    ]
