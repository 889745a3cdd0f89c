# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What would keep a fleet from its moves, told before anybody needs one: for each host, and for each guest by the plan that a move of it would have."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from typing import Any, cast

from ansible_collections.kvmfleet.compute.plugins.module_utils._rules.domain_facts import DiskFacts, DomainFacts, LayerFacts
from ansible_collections.kvmfleet.compute.plugins.module_utils._rules.errors import KvmfleetError
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.planning import freshness, migration
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.planning.fleet import Fleet
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.planning.locate import locate
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.run import Run

_NAMED = 5
"""So many names or hosts are told of a group, then how many more there are."""
_CLOCK = 60
"""Seconds by which a clock may be wrong before it is told."""
_NOT_ASKED = "it was not asked in this run"
NOT_READY = "host_not_ready"


def check(
    names: Sequence[str],
    facts: Sequence[Mapping[str, Any]],
    looked: Sequence[Mapping[str, Any]],
    request: Mapping[str, Any],
    scheduler: Mapping[str, Any],
    run: Run,
    only: str | None = None,
    tunnel: str = "auto",
) -> dict[str, Any]:
    """The verdicts.

    :param names: the hosts of the fleet; :param facts: see `Fleet`.
    :param looked: what each host was found to be: `host`, `summary`, `problems`, `to_do`, `hints`, `guests` (the module domain_info's `domains`), `ways`
        (of the module way_info to the other hosts).
    :param request: as for `locate`, without an instance; :param only: the one host that is told of; :param tunnel: `kvmfleet_migration_tunnel`.
    :returns: `hosts`, each with `host`, `answers`, `ready`, `summary`, `problems`, `to_do`, `hints`, `guests` (each with `instance`, `destination`, or the
        `code` and the `reason` why it cannot be moved), and `problems` of the fleet.
    :raises KvmfleetError: `unknown_host`, `no_compute_hosts`.
    """
    if only and only not in names:
        raise KvmfleetError("unknown_host", f"target_host: {only} is not in group compute of the inventory ({', '.join(names)}).")
    fleet = Fleet(freshness.marked([*_asked(names, facts, run)], run))
    found = {host["host"]: host for host in looked}
    hosts = [_host(name, fleet.hosts[name], found.get(name) or {}) for name in names]
    unready = {host["host"] for host in hosts if not host["ready"]}
    problems = _of_the_fleet(fleet)
    for host in hosts:
        guests = (found.get(host["host"]) or {}).get("guests") or () if host["answers"] and only in (None, "", host["host"]) else ()
        host["hints"] += [*_unread(host["host"], guests), *_detours((found.get(host["host"]) or {}).get("ways") or {}, fleet, tunnel)]
        host["guests"] = [_guest(fleet, host, guest, request, scheduler, unready, problems) for guest in sorted(guests, key=lambda guest: guest["name"])]
    return {"hosts": [host for host in hosts if only in (None, "", host["host"])], "problems": problems}


def _asked(names: Sequence[str], facts: Sequence[Mapping[str, Any]], run: Run) -> list[dict[str, Any]]:
    """The facts of this run; what a cache remembers says nothing about tonight."""
    told = {str(state["host"]): dict(state) for state in facts if freshness.read_in(run, state)}
    return [told.get(name) or {"host": name, "up": False, "run": run.name, "down_reason": _NOT_ASKED} for name in names]


def _host(name: str, state: Mapping[str, Any], looked: Mapping[str, Any]) -> dict[str, Any]:
    problems = [_line(problem) for problem in looked.get("problems") or ()]
    reason = None if state.get("up") else _line(str(state.get("down_reason") or "no facts were gathered"))
    if reason and not any(reason in problem or reason == _NOT_ASKED for problem in problems):
        problems.insert(0, reason)
    return {
        "host": name,
        "answers": bool(state.get("up")),
        "ready": not problems,
        "summary": str(looked.get("summary") or ""),
        "problems": problems,
        "to_do": [_line(action) for action in looked.get("to_do") or ()],
        "hints": [*map(_line, looked.get("hints") or ()), *_clock(state)],
    }


def _clock(state: Mapping[str, Any]) -> list[str]:
    """Nothing here subtracts times of two clocks from each other but this, which is for people: steps of one operation are told by both."""
    now, asked = state.get("now"), state.get("gathered_at")
    if not isinstance(now, (int, float)) or not isinstance(asked, (int, float)):
        return []
    ahead = now - asked  # the host answers after it was asked, at most as much later as a host may hang
    if -_CLOCK <= ahead <= 5 * _CLOCK:
        return []
    return [f"its clock is {abs(ahead):.0f} seconds {'ahead of' if ahead > 0 else 'behind'} the controller's, so that times in history do not fit together"]


def _of_the_fleet(fleet: Fleet) -> list[dict[str, str]]:
    try:
        fleet.require_parties()
    except KvmfleetError as refusal:
        return [{"code": refusal.code, "reason": _line(refusal.message)}]
    return []


def _guest(
    fleet: Fleet,
    host: Mapping[str, Any],
    guest: Mapping[str, Any],
    request: Mapping[str, Any],
    scheduler: Mapping[str, Any],
    unready: Collection[str],
    problems: Sequence[Mapping[str, str]],
) -> dict[str, Any]:
    told = {"instance": guest["name"], "destination": None, "code": None, "reason": None}
    if guest["domain"] is None:
        return {**told, "code": guest["error"]["code"], "reason": _line(guest["error"]["message"])}
    if problems:
        return {**told, "code": problems[0]["code"], "reason": "of what is wrong with the whole inventory, as said at the end"}
    try:
        if not host["ready"]:
            raise KvmfleetError(NOT_READY, f"{host['host']} itself is not ready")
        asked = {**request, "instance": guest["uuid"], "target_host": None, "ignore_hosts": sorted(unready)}
        located = locate(fleet, asked)
        if located["host"] is None:
            raise KvmfleetError("interrupted_operation", "an operation on it was interrupted: run kvmfleet.compute.recover first")
        plan = migration.plan_in(fleet, identified(host["host"], guest["domain"]), located["request"], dict(scheduler))
    except KvmfleetError as refusal:
        return {**told, "code": refusal.code, "reason": reason(refusal, host["host"], unready)}
    if plan["action"] != "move":
        return {**told, "code": "unconfirmed_migration", "reason": _line(plan["message"])}
    return {**told, "destination": plan["candidates"][0]}


def reason(refusal: KvmfleetError, source: str = "", unready: Collection[str] = ()) -> str:
    """The refusal in one line, each part with its code where it has several."""
    if refusal.code == "not_movable":
        return "; ".join(f"{_line(part['reason'])} [{part['code']}]" for part in refusal.details["refusals"])
    if refusal.code == "no_valid_host":
        return nowhere(refusal.details["placement"]["rejected"], source, unready)
    return _line(refusal.message)


def nowhere(rejected: Mapping[str, Sequence[Mapping[str, Any]]], source: str, unready: Collection[str] = ()) -> str:
    """What each of the other hosts has against it, those first that have least."""
    others = {host: [reason["reason"] for reason in reasons] for host, reasons in rejected.items() if host != source}
    others.update({host: ["it is not ready"] for host in others if host in unready})
    nearest = sorted(others, key=lambda host: (host in unready, len(others[host])))
    shown = [f"{host}: {', '.join(others[host])}" for host in nearest[:_NAMED]]
    more = [f"and {len(nearest) - _NAMED} more hosts"] if len(nearest) > _NAMED else []
    return f"no other host would take it: {'; '.join([*shown, *more])}" if shown else "there is no other host in the fleet"


def identified(host: str, domain: DomainFacts) -> DomainFacts:
    """The domain with an identity for each base image; one that nobody has read yet is like no other, so that there must be room for it.

    What has no form that an image can be read from is left as it is, for the plan to name.
    """
    told = domain.copy()
    for kind in ("disks", "boot_files"):
        if isinstance(told.get(kind), Sequence):
            told[kind] = [_with_identities(host, disk) for disk in told[kind]]
    return told


def _with_identities(host: str, disk: DiskFacts) -> DiskFacts:
    if not isinstance(disk, Mapping) or not isinstance(disk.get("chain"), Sequence) or not all(map(_is_layer, disk["chain"])):
        return disk
    told = disk.copy()
    if disk["chain"]:
        told["chain"] = [*disk["chain"][:1], *(cast(LayerFacts, {"identity": _unlike_any(host, layer), **layer}) for layer in disk["chain"][1:])]
    return told


def _is_layer(layer: Any) -> bool:
    return isinstance(layer, Mapping) and {"path", "format", "virtual_size"} <= layer.keys()


def _unlike_any(host: str, layer: LayerFacts) -> dict[str, Any]:
    sha256 = hashlib.sha256(f"{host} {layer['path']}".encode()).hexdigest()
    return {"sha256": sha256, "format": layer["format"], "virtual_size": layer["virtual_size"], "size_bytes": layer.get("file_bytes") or 0}


def _unread(host: str, guests: Sequence[Mapping[str, Any]]) -> list[str]:
    """Base images whose content is not known, which the first plan of each guest on them reads."""
    disks = [disk for guest in guests for disk in (guest["domain"] or {}).get("disks") or ()]
    paths = {layer["path"] for disk in disks for layer in (disk.get("chain") or ())[1:] if "identity" not in layer}
    if not paths:
        return []
    what = "1 base image was" if len(paths) == 1 else f"{len(paths)} base images were"
    return [f"{what} never read on {host}: other hosts are asked for room as if they had none of it, and the first plan reads it, which takes a while"]


def _detours(ways: Mapping[str, Mapping[str, Any]], fleet: Fleet, tunnel: str) -> list[str]:
    """The hosts from which no copy gets here straight, with the reason of the first."""
    if tunnel == "always":
        return []
    closed = {host: way["no_way"] for host, way in ways.items() if way["no_way"] and host in fleet.hosts and host not in fleet.down}
    if not closed:
        return []
    becomes = "are refused" if tunnel == "never" else "travel through the controller's ssh connections"
    return [f"copies from {_listed(list(closed))} {becomes}, since here {_line(next(iter(closed.values())))}"]


def complete(checked: Mapping[str, Any]) -> bool:
    """Whether every host is ready and every guest can move."""
    return not checked["problems"] and all(host["ready"] and all(guest["code"] is None for guest in host["guests"]) for host in checked["hosts"])


def lines(checked: Mapping[str, Any]) -> list[str]:
    """All of it for people; the last line is about all hosts."""
    told = [line for host in checked["hosts"] for line in _host_lines(host)]
    return [*told, *(problem["reason"] for problem in checked["problems"]), summary(checked)]


def summary(checked: Mapping[str, Any]) -> str:
    """What it comes to, in one line."""
    hosts = checked["hosts"]
    guests = [guest for host in hosts for guest in host["guests"]]
    silent = [host["host"] for host in hosts if not host["answers"]]
    unknown = f" The guests of {_listed(silent)} are not known." if silent else ""
    return f"{_share(sum(host['ready'] for host in hosts), len(hosts), 'host')} ready, {_movable(guests)}.{unknown}"


def _host_lines(host: Mapping[str, Any]) -> list[str]:
    name, after = host["host"], f": {host['summary']}" if host["summary"] else ""
    silent = f"{name} cannot be asked, so its guests are not known:"
    told = [f"{name} is ready{after}." if host["ready"] else f"{name} is not ready:" if host["answers"] else silent]
    told += [f"  {problem}" for problem in host["problems"]]
    told += [f"  prepare_host would {action}" for action in host["to_do"]]
    told += [f"  look after: {hint}" for hint in host["hints"]]
    if not host["answers"]:
        return told
    by_reason: dict[tuple[str, str], list[str]] = {}
    for guest in host["guests"]:
        if guest["code"] is not None:
            by_reason.setdefault((guest["code"], guest["reason"]), []).append(guest["instance"])
    told.append(f"{name}: {_movable(host['guests'])}{':' if by_reason else '.'}")
    return told + [f"  {_listed(names)} cannot, since {reason}{'' if code == 'not_movable' else f' [{code}]'}" for (code, reason), names in by_reason.items()]


def _movable(guests: Sequence[Mapping[str, Any]]) -> str:
    if not guests:
        return "no guests"
    able = sum(guest["code"] is None for guest in guests)
    return f"{able} of {len(guests)} guest{'s' if len(guests) > 1 else ''} can move"


def _share(some: int, total: int, what: str) -> str:
    return f"{some} of {total} {what}{'s are' if total != 1 else ' is'}"


def _listed(names: Sequence[str]) -> str:
    shown = list(names[:_NAMED]) + ([f"{len(names) - _NAMED} more"] if len(names) > _NAMED else [])
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"


def _line(text: str) -> str:
    return " ".join(str(text).split())
