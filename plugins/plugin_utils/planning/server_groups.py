# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a person says about guests that belong together or apart: names and patterns become the UUIDs that the scheduler knows.

Nova keeps server groups and hints in its database; here they are the group variable `kvmfleet_server_groups` and the extra variable `scheduler_hints`.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping
from typing import Any

from ansible_collections.kvmfleet.compute.plugins.module_utils._rules.errors import KvmfleetError
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.planning import maintenance
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.planning.fleet import Fleet
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.validation import ValidationError, integer, known_mapping, mapping, strings

HARD_POLICIES = ("affinity", "anti-affinity")
POLICIES = (*HARD_POLICIES, "soft-affinity", "soft-anti-affinity")
_KEYS = ("policy", "members", "max_server_per_host", "max_unavailable")
_OF_GUESTS = ("same_host", "different_host")
_GROUP = "group"


def group_of(fleet: Fleet, groups: object, entry: Mapping[str, Any], hints: Mapping[str, Any]) -> dict[str, Any] | None:
    """The server group of an instance, or None.

    :param groups: `kvmfleet_server_groups`; :param entry: `name` and `uuid` of the instance; :param hints: the hint `group` names a group that the
        instance joins.
    :returns: `name`, `policy`, `max_server_per_host` and `members`, the UUIDs of all of them that some host of the fleet has, may get or may get back.
    :raises KvmfleetError: `unknown_server_group`, `several_server_groups`; ValidationError for what is no group.
    """
    known = checked_groups(groups)
    wanted = hints.get(_GROUP)
    if wanted and wanted not in known:
        raise KvmfleetError(
            "unknown_server_group", f"scheduler_hints.group: {wanted!r} is not in kvmfleet_server_groups; known: {', '.join(sorted(known)) or 'none'}."
        )
    own = [name for name, group in known.items() if name == wanted or is_member(group["members"], entry["name"], entry["uuid"])]
    if len(own) > 1:
        raise KvmfleetError(
            "several_server_groups",
            f"{entry['name']} is a member of {len(own)} server groups, {', '.join(own)}. A guest has one: narrow the members of the others in "
            "kvmfleet_server_groups.",
            groups=own,
        )
    if not own:
        return None
    group = known[own[0]]
    members = {uuid for name, uuid in _guests(fleet) if is_member(group["members"], name, uuid)} | {entry["uuid"]}
    if group["policy"] == "affinity":
        members -= maintenance.leaving(fleet) - {entry["uuid"]}
    return {"name": own[0], "policy": group["policy"], "members": sorted(members), "max_server_per_host": group["max_server_per_host"]}


def checked_groups(groups: object) -> dict[str, dict[str, Any]]:
    """`kvmfleet_server_groups` with all its keys: `policy`, `members`, `max_server_per_host`, `max_unavailable` (None where nobody says).

    :raises ValidationError: for what is no group.
    """
    return {str(name): _checked(f"kvmfleet_server_groups.{name}", group) for name, group in mapping("kvmfleet_server_groups", groups).items()}


def hints_of(fleet: Fleet, hints: object) -> dict[str, Any]:
    """The hints with the names of guests replaced by their UUIDs.

    :raises KvmfleetError: `unknown_instance` for a name that no host of the fleet knows.
    """
    given = {str(key): value for key, value in mapping("scheduler_hints", hints).items()}
    for key in _OF_GUESTS:
        if given.get(key):
            names = [given[key]] if isinstance(given[key], str) else strings(f"scheduler_hints.{key}", given[key])
            given[key] = [_uuid(fleet, f"scheduler_hints.{key}", name) for name in names]
    return given


def _checked(field: str, value: object) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise ValidationError(field, value, "a mapping with policy and members")
    given = known_mapping(field, value, _KEYS)
    if given.get("policy") not in POLICIES:
        raise ValidationError.not_one_of(f"{field}.policy", given.get("policy"), POLICIES)
    members = [given["members"]] if isinstance(given.get("members"), str) else strings(f"{field}.members", given.get("members"))
    if not members or not all(members):
        raise ValidationError(f"{field}.members", given.get("members"), "a list of names or shell patterns of instances")
    limit, unavailable = given.get("max_server_per_host"), given.get("max_unavailable")
    if unavailable is not None:
        unavailable = integer(f"{field}.max_unavailable", unavailable, 0)
    return {
        "policy": str(given["policy"]),
        "members": [str(member) for member in members],
        "max_server_per_host": 1 if limit is None else integer(f"{field}.max_server_per_host", limit, 1),
        "max_unavailable": unavailable,
    }


def is_member(patterns: list[str], name: str, uuid: str) -> bool:
    """Whether one of the names, UUIDs or shell patterns means a guest."""
    return any(pattern == uuid or fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def _guests(fleet: Fleet) -> set[tuple[str, str]]:
    """Name and UUID of all guests: those that are defined, those that are on their way, and those whose sealed copy waits."""
    found = {(entry["name"], entry["uuid"]) for state in fleet.hosts.values() for entry in state.get("domains", [])}
    for state in fleet.hosts.values():
        found |= {(entry["instance_name"], entry["instance_uuid"]) for entry in (*state.get("claims", []), *state.get("migrations", []))}
    return found


def _uuid(fleet: Fleet, field: str, wanted: str) -> str:
    uuid = next((uuid for name, uuid in sorted(_guests(fleet)) if wanted in (name, uuid)), None)
    if uuid is None:
        raise KvmfleetError("unknown_instance", f"{field}: no host of the fleet has an instance {wanted!r}.", instance=wanted)
    return uuid
