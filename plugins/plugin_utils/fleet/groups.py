# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Server groups through a whole programme: how many members may be down at once, and which are down anyway."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from ansible_collections.kvmfleet.compute.plugins.module_utils._rules.errors import KvmfleetError
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.planning import maintenance
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.planning.fleet import Fleet
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.planning.server_groups import checked_groups, is_member

APART = ("anti-affinity", "soft-anti-affinity")
_RUNS = "running"


@dataclass(frozen=True)
class Group:
    """`down`: the members that do not run, with where and what they are; `limit`: how many may be down at once, None for any number.

    `pending`: running members that drains of other hosts are still going to move, so that they may be down at any moment.
    """

    name: str
    policy: str
    members: Mapping[str, str]
    limit: int | None
    down: Mapping[str, str]
    pending: Mapping[str, str]

    def lane(self, stopped: Collection[str] = ()) -> int | None:
        """How many running members may be moved at once, beside those that are or may be down anyway and those that are going to be stopped."""
        return None if self.limit is None else self.limit - len({*self.down, *self.pending, *(uuid for uuid in stopped if uuid in self.members)})

    def refusal(self, name: str, stopped: Collection[str] = ()) -> KvmfleetError:
        """Why a running member cannot be stopped, not even for a moment."""
        to_be = (f"{self.members[uuid]} (to be stopped)" for uuid in stopped if uuid in self.members)
        down = sorted({*self.down.values(), *self.pending.values(), *to_be})
        said = f", and down already, or about to be, {'is' if len(down) == 1 else 'are'} {', '.join(down)}" if down else ""
        out = "Wait until those other drains have ended, or allow" if self.pending else "Start what is down, or allow" if down else "Allow"
        return KvmfleetError(
            "group_unavailable",
            f"{name}: at most {self.limit} members of the server group {self.name} may be down at once{said}. {out} more (max_unavailable).",
            group=self.name,
            max_unavailable=self.limit,
            down=down,
            option=f"kvmfleet_server_groups.{self.name}.max_unavailable={len(down) + 1}",
        )


class Groups:
    """The groups of `kvmfleet_server_groups`, with those members that the fleet has.

    Nobody says how many of a group may be down at once: one, where its members are to be apart, since then each stands in for another; else any number.

    :param planned: the hosts that are planned anew, whatever an earlier run has noted there.
    """

    def __init__(self, fleet: Fleet, groups: object, planned: Collection[str] = ()) -> None:
        checked = checked_groups(groups)
        self.of_guest: dict[str, str] = {}
        running = _running(fleet) if checked else set()
        others = {promise.entry["uuid"]: promise.host for promise in maintenance.promises(fleet, planned)} if checked else {}
        found: dict[str, tuple[dict[str, str], dict[str, str], dict[str, str]]] = {name: ({}, {}, {}) for name in checked}
        for host, entry in _guests(fleet) if checked else ():
            for name, group in checked.items():
                if not is_member(group["members"], entry["name"], entry["uuid"]):
                    continue
                uuid, (members, down, pending) = entry["uuid"], found[name]
                self.of_guest.setdefault(uuid, name)
                members[uuid] = entry["name"]
                if uuid not in running:
                    down[uuid] = f"{entry['name']} ({host}: {'not known' if host in fleet.down else entry['state']})"
                elif uuid in others:
                    pending[uuid] = f"{entry['name']} (by the drain of {others[uuid]})"
        self.groups = {name: Group(name, group["policy"], found[name][0], _limit(group), *found[name][1:]) for name, group in checked.items()}

    def group(self, uuid: str) -> Group | None:
        """The group of a guest."""
        return self.groups.get(self.of_guest.get(uuid, ""))


def _limit(group: Mapping[str, Any]) -> int | None:
    if group["max_unavailable"] is not None:
        return int(group["max_unavailable"])
    return 1 if group["policy"] in APART else None


def _running(fleet: Fleet) -> set[str]:
    answering = [state for name, state in fleet.hosts.items() if name not in fleet.down]
    return {entry["uuid"] for state in answering for entry in state.get("domains", []) if entry["state"] == _RUNS}


def _guests(fleet: Fleet) -> list[tuple[str, Mapping[str, Any]]]:
    """Where each guest is: defined, or nowhere defined at the moment, since an operation has it in its hands."""
    found: list[tuple[str, Mapping[str, Any]]] = [(name, entry) for name, state in fleet.hosts.items() for entry in state.get("domains", [])]
    defined = {entry["uuid"] for _name, entry in found}
    for record in fleet.all_open_migrations():
        if record["instance_uuid"] not in defined:
            found.append((record["host"], {"name": record["instance_name"], "uuid": record["instance_uuid"], "state": "on its way"}))
    return found
