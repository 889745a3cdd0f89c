# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where a destination may get a base image from, in the order in which it tries."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.kvmfleet.compute.plugins.module_utils._rules.errors import KvmfleetError
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.planning.fleet import Fleet

_SIBLINGS = 2


def base_sources(hosts: Sequence[Mapping[str, Any]], bases: list[dict[str, Any]], source: str, destination: str, store: str | None) -> list[dict[str, Any]]:
    """Sources of each base, best first: other hosts in the zone of the destination that report it, the image store, the host of the instance.

    :param hosts: see `Fleet`; :param store: its URL, if the fleet has one.
    :returns: `base`, `kind` (sibling, store, source), `host` and `url` (of both, the one that the kind has; the other is None).
    :raises KvmfleetError: `unknown_host`.
    """
    fleet = Fleet(hosts)
    if destination not in fleet.hosts:
        raise KvmfleetError("unknown_host", f"There are no facts of the host {destination!r}.", host=destination)
    found = []
    for base in bases:
        siblings = _siblings(fleet, base["sha256"], source, destination)
        found += [{"base": base, "kind": "sibling", "host": host, "url": None} for host in siblings]
        found += [{"base": base, "kind": "store", "host": None, "url": store}] if store else []
        found.append({"base": base, "kind": "source", "host": source, "url": None})
    return found


def _siblings(fleet: Fleet, sha256: str, source: str, destination: str) -> list[str]:
    """The least busy ones; among equals each destination begins with another one, so that many moves at once do not all ask the same host."""
    zone = fleet.hosts[destination].get("availability_zone")
    names = [
        name
        for name, facts in fleet.hosts.items()
        if name not in (source, destination) and facts.get("up") and facts.get("availability_zone") == zone and sha256 in (facts.get("bases") or ())
    ]

    def order(name: str) -> tuple[int, str]:
        return fleet.hosts[name].get("num_io_ops") or 0, hashlib.sha256(f"{destination} {name}".encode()).hexdigest()

    return sorted(names, key=order)[:_SIBLINGS]
