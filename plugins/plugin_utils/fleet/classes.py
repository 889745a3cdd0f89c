# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What becomes of each guest of a host that is emptied, before anybody looks for a place: it moves, stops, stays, waits, or keeps the drain from beginning."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ansible_collections.kvmfleet.compute.plugins.module_utils._rules.errors import KvmfleetError
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.fleet import estimates, windows
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.fleet.groups import Groups
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.fleet.options import DrainOptions
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.fleet.policies import Policy
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.fleet.programme import BUSY, LEAVE, OFF, REFUSE, RUNNING, STOP, UNMOVABLE, Guest, Told
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.planning import check, migration
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.planning.fleet import Fleet
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.planning.maintenance import MOVE, WAIT
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.planning.server_groups import is_member

_STOPPABLE = ("running", "shutoff")
_REQUEST = {"zone": None, "target_host": None, "ignore_hosts": (), "allow_resize_to_same_host": False, "allow_downsize": False, "flavor": None}


@dataclass(frozen=True)
class Classed:
    """A guest with its class.

    :param asked: the question for a place, of one that moves, be it later; :param told: why it does not move, or not now.
    """

    guest: Guest
    policy: Policy
    asked: dict[str, Any] | None = None
    told: Told | None = None


@dataclass(frozen=True)
class Looked:
    """All that a class hangs on.

    :param described: what the module domain_info says of each guest, by UUID; :param decisions: what is to become of its open operation, by UUID.
    :param now: the time by the controller's clock.
    """

    fleet: Fleet
    groups: Groups
    options: DrainOptions
    described: Mapping[str, Mapping[str, Any]]
    decisions: Mapping[str, Mapping[str, Any]]
    now: float


def described(answers: Iterable[Any]) -> dict[str, Mapping[str, Any]]:
    """What hosts say of their guests, by UUID; what has another form than the module domain_info gives it says nothing.

    :param answers: mappings with `guests`, what that module answers about all of a host.
    """
    told = (guest for answer in answers if isinstance(answer, Mapping) for guest in _listed(answer.get("guests")))
    return {guest["uuid"]: guest for guest in told if isinstance(guest, Mapping) and isinstance(guest.get("uuid"), str)}


def _listed(value: Any) -> Sequence[Any]:
    return value if isinstance(value, Sequence) and not isinstance(value, str) else ()


def classify(looked: Looked, hosts: tuple[str, ...]) -> list[Classed]:
    """The guests of these hosts, by host and name."""
    return [class_of(looked, host, entry) for host in hosts for entry in sorted(looked.fleet.hosts[host].get("domains", []), key=lambda entry: entry["name"])]


def in_hand(looked: Looked, hosts: tuple[str, ...]) -> Iterator[Told]:
    """Guests that these hosts do not define, since an operation that was begun there has them in its hands."""
    for uuid, decision in sorted(looked.decisions.items()):
        defined = any(entry["uuid"] == uuid for host in hosts for entry in looked.fleet.hosts[host].get("domains", []))
        if not defined and not decision["settled"] and decision["source"] in hosts:
            guest = Guest(decision["instance_name"], uuid, decision["source"], "on its way", BUSY, RUNNING)
            yield _busy(guest, decision)


def class_of(looked: Looked, host: str, entry: Mapping[str, Any]) -> Classed:
    """The class of one guest, which its host defines."""
    downtime = RUNNING if entry["state"] != "shutoff" else OFF
    group = looked.groups.of_guest.get(entry["uuid"])
    guest = Guest(entry["name"], entry["uuid"], host, entry["state"], MOVE, downtime, group=group, wants=estimates.wants(entry))
    policy = Policy()
    try:
        zone = str(looked.fleet.hosts[host].get("availability_zone") or "nova")
        policy = looked.options.policies.of(entry, host, zone)
        return _by_policy(looked, replace(guest, priority=policy.priority, said=policy.said, max_downtime=_limit(looked.options, policy)), policy)
    except KvmfleetError as refusal:
        return _unmovable(looked, guest, policy, refusal)


def _limit(options: DrainOptions, policy: Policy) -> float | None:
    return options.max_downtime if policy.max_downtime is None else policy.max_downtime


def _by_policy(looked: Looked, guest: Guest, policy: Policy) -> Classed:
    """:raises KvmfleetError: the guest cannot be moved."""
    if guest.uuid in looked.decisions:
        return Classed(guest, policy, told=_busy(guest, looked.decisions[guest.uuid]))
    if policy.policy == LEAVE:
        return Classed(guest, policy, told=_told(guest, LEAVE, "policy", f"it stays, by {policy.said}"))
    if policy.policy == STOP:
        what = "it is off and stays so" if guest.downtime == OFF else "it is shut down, and started by restore"
        return Classed(guest, policy, told=_told(guest, STOP, "policy", f"{what}, by {policy.said}"))
    if policy.policy == REFUSE:
        out = f"{{{guest.instance}: move|stop|leave}}"
        message = f"nobody is to touch it, by {policy.said}; -e policies='{out}' says otherwise for this run"
        return Classed(guest, policy, told=_told(guest, REFUSE, "policy_refuses", message, option="policies"))
    asked = _question(looked, guest)
    _require_downtime(looked, guest)
    guest = replace(guest, wants=estimates.wants({}, asked))
    return Classed(guest, policy, asked=asked, told=_waiting(looked, guest, policy))


def _question(looked: Looked, guest: Guest) -> dict[str, Any]:
    """:raises KvmfleetError: the guest cannot be moved, wherever to."""
    told = looked.described.get(guest.uuid)
    if told is None:
        raise KvmfleetError("not_described", f"{guest.host} defines {guest.instance}, and did not describe it: it may have come in this moment. Repeat.")
    if not isinstance(told.get("domain"), Mapping):
        said = told.get("error")
        error = {"code": "not_described", "message": f"{guest.host} could not describe it", **(said if isinstance(said, Mapping) else {})}
        code, message = str(error["code"]), str(error["message"])
        raise KvmfleetError(code, message)
    request = {**_REQUEST, "instance": guest.uuid, "live_differences": looked.options.live_differences, "server_groups": looked.options.server_groups}
    return migration.question(looked.fleet, check.identified(guest.host, told["domain"]), request)


def _require_downtime(looked: Looked, guest: Guest) -> None:
    """:raises KvmfleetError: `downtime_over_limit`."""
    last, limit = looked.options.downtimes.get(guest.uuid), guest.max_downtime
    if guest.downtime == RUNNING and last is not None and limit is not None and last > limit:
        raise KvmfleetError(
            "downtime_over_limit",
            f"{guest.instance} was down for {last:.0f} s when it was moved last, and may be down for {limit:g} s (max_downtime).",
            need=last,
            have=limit,
        )


def _waiting(looked: Looked, guest: Guest, policy: Policy) -> Told | None:
    if policy.approval and not is_member([*looked.options.approve], guest.instance, guest.uuid):
        return _told(guest, WAIT, "approval", f"somebody has to approve it: -e approve={guest.instance}", option=f"approve={guest.instance}")
    opens = windows.opens(policy.windows, looked.now)
    if opens > looked.now:
        when = windows.told(opens)
        said = ", ".join(window.text for window in policy.windows)
        return _told(guest, WAIT, "window", f"its window is {said} (UTC), next {when}", when=when)
    return None


def _unmovable(looked: Looked, guest: Guest, policy: Policy, refusal: KvmfleetError) -> Classed:
    """What cannot be moved is refused, or stops or stays if this run says so."""
    said, message = looked.options.on_unmovable, " ".join(check.reason(refusal).split())
    can_stop = guest.state in _STOPPABLE and refusal.code not in ("not_persistent", "invalid_value")
    if said == STOP and can_stop:
        return Classed(guest, policy, told=_told(guest, STOP, refusal.code, f"it cannot be moved, so it is shut down, and started by restore: {message}"))
    if said == LEAVE:
        return Classed(guest, policy, told=_told(guest, LEAVE, refusal.code, f"it cannot be moved, so it stays: {message}"))
    option = "on_unmovable=stop|leave" if can_stop else "on_unmovable=leave"
    if refusal.code == "live_differences":
        option = f"live_differences=keep|drop or {option}"
    return Classed(guest, policy, told=_told(guest, UNMOVABLE, refusal.code, f"cannot move: {message}", option=option))


def _busy(guest: Guest, decision: Mapping[str, Any]) -> Told:
    """An operation on it is open: what has to be done first, and by which playbook."""
    what, number = f"migration {decision['migration_uuid']}", decision["migration_uuid"]
    way = f"{decision['source']} -> {decision['destination'] or 'undecided'}"
    if decision["settled"]:
        did = "was resized in place" if decision["in_place"] else f"came from {decision['source']}"
        message, how = f"it {did} by {what}, which waits: confirm or revert it first", "confirm|revert"
    elif decision["worked_on"]:
        message, how = f"{decision['worked_on']} works on it ({what}, {way}): wait until that has ended", "wait"
    elif decision["action"] == "wait":
        message, how = f"{what} ({way}) cannot be ended yet: {decision['reason']}", "wait"
    else:
        message, how = f"{what} ({way}) was interrupted: run kvmfleet.compute.recover first ({decision['action']}: {decision['reason']})", "recover"
    details = {"how": how, "migration_uuid": number, "action": decision["action"]}
    return _told(guest, BUSY, "unconfirmed_migration" if decision["settled"] else "interrupted_operation", " ".join(message.split()), option=how, **details)


def _told(guest: Guest, kind: str, code: str, message: str, option: str | None = None, when: str | None = None, **details: Any) -> Told:
    return Told(replace(guest, kind=kind), code, message, option, when, details=details)
