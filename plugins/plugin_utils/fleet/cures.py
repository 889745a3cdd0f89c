# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A guest that finds no room: what is missing where least is missing, and the cheapest thing that would make it fit. What is confirmed first is worked out."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.fleet.groups import Groups
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.fleet.programme import REFUSE, Guest, Told
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.fleet.proof import CAPACITIES, Proof
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.planning import check
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.planning.fleet import Fleet
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.host_state import HostState
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.loaded_fleet import LoadedFleet

_UNITS = {"vcpus": "vCPUs", "ram": "GiB of memory", "disk": "GiB of disk"}
_MIB = 1024
_APART = "anti_affinity"
"""The code of a rejection by a group whose members are to be apart."""
_NAMED = 5
"""So many members of a group are named."""


class _Held(NamedTuple):
    """What a sealed copy holds on a host until its operation is confirmed."""

    instance: str
    vcpus: float
    ram: float
    disk: float


def no_room(fleet: Fleet, groups: Groups, proof: Proof, guest: Guest, drained: Collection[str]) -> Told:
    """The refusal of a guest that has no place beside the others."""
    answer = proof.unplaced[guest.uuid]
    rejected = {host: reasons for host, reasons in answer["rejected"].items() if host not in drained and host != guest.host}
    short = {host: reasons for host, reasons in rejected.items() if _is_short(reasons)}
    best = min(short, key=lambda host: (_lack(short[host]), host)) if short else _nearest(rejected)
    cure = _by_confirming(fleet, proof.fleet, short) or _by_suggestion(answer, drained)
    details: dict[str, Any] = {"best": best, "cure": cure}
    apart = _apart(groups, proof.fleet, guest, rejected)
    if best in short:
        worst = max(short[best], key=lambda reason: _lack([reason]))
        need, have = (_amount(worst["code"], worst[key]) for key in ("need", "have"))
        details.update(resource=worst["code"], need=worst["need"], have=worst["have"])
        message = f"needs {need} {_UNITS[worst['code']]}: best is {best} with {have} left"
        message = f"{apart}; {message}" if apart else message
    elif apart:
        others = {host: reasons for host, reasons in rejected.items() if not any(reason["code"] == _APART for reason in reasons)}
        message = f"{apart}; {check.nowhere(others, guest.host)}" if others else f"{apart}; there is no host without one"
    else:
        message = check.nowhere(rejected, guest.host)
    return Told(replace(guest, kind=REFUSE), "no_valid_host", f"{message} ({cure})" if cure else message, option=cure, details=details)


def _is_short(reasons: Sequence[Mapping[str, Any]]) -> bool:
    """Whether nothing but room is missing."""
    return bool(reasons) and all(reason["code"] in CAPACITIES for reason in reasons)


def _apart(groups: Groups, states: LoadedFleet, guest: Guest, rejected: Mapping[str, Sequence[Mapping[str, Any]]]) -> str | None:
    """`anti-affinity with web8 (kvm2), web7 (kvm3)`: the members that stand in the way, those of this programme where they are to go."""
    group = groups.group(guest.uuid)
    hosts = [host for host, reasons in rejected.items() if any(reason["code"] == _APART for reason in reasons)]
    if group is None or not hosts:
        return None
    members = [f"{group.members[uuid]} ({host})" for host in hosts for uuid in states.hosts[host].instances if uuid in group.members and uuid != guest.uuid]
    more = [f"{len(members) - _NAMED} more"] if len(members) > _NAMED else []
    return f"anti-affinity with {', '.join([*members[:_NAMED], *more])}"


def _lack(reasons: Sequence[Mapping[str, Any]]) -> float:
    """The share of what is needed that is missing, of the resource of which most is."""
    return max((reason["need"] - reason["have"]) / (reason["need"] or 1) for reason in reasons)


def _amount(code: str, value: float) -> str:
    return f"{value:g}" if code == "vcpus" else f"{value / _MIB:.4g}"


def _nearest(rejected: Mapping[str, Sequence[Mapping[str, Any]]]) -> str | None:
    return min(rejected, key=lambda host: (len(rejected[host]), host), default=None)


def _by_confirming(fleet: Fleet, states: LoadedFleet, short: Mapping[str, Sequence[Mapping[str, Any]]]) -> str | None:
    """The fewest unconfirmed operations whose sealed copies hold the room that is missing on one host."""
    found = []
    for host, reasons in short.items():
        held = sorted(_held(fleet, host), key=lambda each: (-each.ram, each.instance))
        for count in range(1, len(held) + 1):
            if _covers(states.hosts[host], held[:count], reasons):
                found.append((count, host, held[:count]))
                break
    if not found:
        return None
    _count, host, held = min(found, key=lambda each: (each[0], each[1]))
    names = " and ".join(each.instance for each in held)
    code = max(short[host], key=lambda reason: _lack([reason]))["code"]
    freed = _amount(code, sum(getattr(each, code) for each in held))
    return f"fits if {names}, unconfirmed on {host}, {'is' if len(held) == 1 else 'are'} confirmed: +{freed} {_UNITS[code].partition(' ')[0]}"


def _held(fleet: Fleet, host: str) -> list[_Held]:
    """Sealed copies on a host whose guests have arrived elsewhere."""
    finished = {record["uuid"] for record in fleet.all_open_migrations() if record["status"] == "finished" and record["host"] == host}
    claims = [claim for claim in fleet.hosts[host].get("claims", []) if claim.get("role") == "source" and claim.get("migration_uuid") in finished]
    return [_Held(claim["instance_name"], claim.get("vcpus") or 0, claim.get("ram") or 0, claim.get("disk_mb") or 0) for claim in claims]


def _covers(state: HostState, held: Sequence[_Held], reasons: Sequence[Mapping[str, Any]]) -> bool:
    """Whether what these hold is as much as is missing of each resource; no host has more than it has."""
    if not state.known:
        return False
    freed = {code: sum(getattr(each, code) for each in held) for code in CAPACITIES}
    totals = {code: getattr(state, column).total for code, column in CAPACITIES.items()}
    return all(reason["have"] + freed[reason["code"]] >= reason["need"] <= totals[reason["code"]] for reason in reasons)


def _by_suggestion(answer: Mapping[str, Any], drained: Collection[str]) -> str | None:
    """What the scheduler proposes, but for what would be no drain."""
    usable = [each for each in answer["suggestions"] if each["kind"] not in ("same_host", "flavor") and not set(each["hosts"]) & set(drained)]
    return f"fits with {usable[0]['text']}" if usable else None
