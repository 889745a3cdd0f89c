# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The record of a drain that a host keeps of itself, as its facts tell it: what it promises of other hosts, and who is to leave."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any, NamedTuple

from ansible_collections.kvmfleet.compute.plugins.module_utils._rules.host_facts import HostFacts
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.planning.fleet import Fleet

MOVE, WAIT = "move", "wait"
"""Classes of guests that are to leave their host, now or when they may."""
RESTORING = "restoring"
"""The one state of a record in which nobody is to leave any more."""


class Promise(NamedTuple):
    """A guest that a drain is going to move: it has no claim yet, and counts as use of its destination all the same."""

    entry: Mapping[str, Any]
    host: str
    destination: str


def record_of(state: HostFacts) -> Mapping[str, Any] | None:
    """The record of a host; what the inventory says of it is none."""
    told = state.get("maintenance")
    return told if isinstance(told, Mapping) else None


def noted(record: Mapping[str, Any], uuid: str) -> Mapping[str, Any]:
    """What the record says of a guest, nothing for one that it does not know."""
    return (record.get("guests") or {}).get(uuid) or {}


def leaving(fleet: Fleet) -> set[str]:
    """UUIDs of the guests that are to leave a host which is being drained. Where all of a group have to leave, none holds another one back."""
    found: set[str] = set()
    staying: set[str] = set()
    for state in fleet.hosts.values():
        record = record_of(state)
        for entry in state.get("domains", []):
            (found if record is not None and _leaves(record, entry["uuid"]) else staying).add(entry["uuid"])
    return found - staying


def promises(fleet: Fleet, without: Collection[str]) -> Iterator[Promise]:
    """What drains of other hosts are still going to move.

    :param without: the hosts that are planned anew.
    """
    for name, state in fleet.hosts.items():
        record = record_of(state)
        if record is None or name in without:
            continue
        for entry in state.get("domains", []):
            told = noted(record, entry["uuid"])
            there = fleet.hosts.get(str(told.get("destination")))
            if told and _leaves(record, entry["uuid"]) and there is not None and entry["uuid"] not in (there.get("instances") or ()):
                yield Promise(entry, name, str(told["destination"]))


def origin(state: Mapping[str, Any], entry: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Where a drain has taken a guest from, as `host` and `drain`, by the facts of the host where it is now."""
    found = entry.get("origin") or (state.get("origins") or {}).get(entry["uuid"])
    return found if isinstance(found, Mapping) and found.get("host") else None


def _leaves(record: Mapping[str, Any], uuid: str) -> bool:
    return record.get("state") != RESTORING and noted(record, uuid).get("class", MOVE) in (MOVE, WAIT)
