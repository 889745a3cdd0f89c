# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.context import Context
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.filters.base import Filter, Rejection


def host(name: str = "kvm1", zone: str | None = "az1", **changes: Any) -> dict[str, Any]:
    """A host with 8 CPUs, 8 GiB of memory and 100 GiB of disk, unused; a change to None takes the key away."""
    state = {
        "host": name,
        "availability_zone": zone,
        "vcpus": 8,
        "vcpus_used": 0,
        "memory_mb": 8192,
        "memory_mb_used": 0,
        "local_gb": 100,
        "local_gb_used": 0,
        **changes,
    }
    return {key: value for key, value in state.items() if value is not None}


def request(current: str | None = None, **changes: Any) -> dict[str, Any]:
    """A guest of 1 vCPU, 1 GiB of memory and 10 GiB of disk."""
    return {"instance": {"name": "web1", "host": current}, "flavor": flavor(), **changes}


def flavor(**changes: Any) -> dict[str, Any]:
    return {"vcpus": 1, "ram": 1024, "disk": 10, **changes}


def aggregate(**metadata: Any) -> dict[str, Any]:
    return {"name": "group", "metadata": metadata}


def rejection(cls: type[Filter], state: dict[str, Any], asked: dict[str, Any] | None = None, others: tuple = (), **scheduler: Any) -> Rejection | None:
    """What one filter says of one host."""
    context = Context.build([state, *others], asked or request(), scheduler)
    item, asked_of = cls(context), context.hosts[state["host"]]
    return item.rejection(asked_of) if item.applies() and (asked_of.known or not item.needs_facts) else None
