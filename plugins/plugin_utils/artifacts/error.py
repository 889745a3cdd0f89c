# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""`kvmfleet_error`: what a playbook that has failed leaves, and how it is said."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.artifacts.plain import plain, small, text
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.artifacts.wrapped import wrapped

_LARGE = ("placement", "request")
"""What a refusal has for other filters; its reasons for each host become `hosts`."""
_SEVERAL = "not_settled"
_ENDED = {"not_confirmed": "confirmed"}
_AS_BEFORE = "as before: nothing was changed"
_NO_GUEST = "not concerned: this run is about no guest"
_UNKNOWN = "not known to this run: kvmfleet.compute.status shows where it is, and kvmfleet.compute.recover ends what was begun"


def error(
    result: Mapping[str, Any],
    task: str = "",
    refusal: Mapping[str, Any] | None = None,
    *,
    instance: str = "",
    host: str = "",
    begun: bool = False,
    no_guest: bool = False,
) -> dict[str, Any]:
    """What has failed, for programs.

    :param result: of the task that failed; :param task: its name; :param refusal: what a role has refused with: `code`, `message`, and what there is of
        `details`, `hosts` (reasons by host), `instance` and `guest_is`. None where a task has failed.
    :param instance: the guest that the run is about; :param host: the host of a run that acts on each host for itself.
    :param begun: whether an operation may have been begun, so that somebody has to tell what became of the guest.
    :param no_guest: whether it is about no guest at all.
    """
    told = dict(refusal) if refusal else _of_a_task(result, task)
    details = told.get("details") if isinstance(told.get("details"), Mapping) else {}
    message = text(told.get("message") or "no message").strip()
    hosts = told.get("hosts") or _reasons(details) or ({host: message} if host else {})
    return {
        "code": text(told.get("code") or "module_failed"),
        "message": message,
        "instance": text(told.get("instance") or instance or details.get("instance") or ""),
        "guest_is": text(told.get("guest_is") or (_UNKNOWN if begun else _NO_GUEST if no_guest else _AS_BEFORE)),
        "hosts": {text(name): [text(reason) for reason in ([reasons] if isinstance(reasons, str) else reasons)] for name, reasons in hosts.items()},
        "details": small({key: value for key, value in details.items() if key not in _LARGE}) or {},
    }


def several(errors: Sequence[Mapping[str, Any]], meant: int, waiting: Sequence[Mapping[str, Any]] = (), code: str = "") -> dict[str, Any]:
    """One error of those of several operations of a run, each of which was tried.

    :param errors: what `error` made of each, with its `migration_uuid`; :param meant: how many operations were to be ended.
    :param waiting: decisions to leave an operation as it is; :param code: of the whole, else that of all of them, if they have the same.
    """
    told = [{**error({}, refusal=each), "migration_uuid": text(each["migration_uuid"])} for each in [*errors, *map(_of_waiting, waiting)]]
    codes, names = _unlike(each["code"] for each in told), ", ".join(_unlike(each["instance"] for each in told))
    common = {"code": code or (codes[0] if len(codes) == 1 else _SEVERAL), "instance": names}
    if int(meant) == 1:
        return {**{key: value for key, value in told[0].items() if key != "migration_uuid"}, **common}
    hosts: dict[str, list[str]] = {}
    for each in told:
        for name, reasons in each["hosts"].items():
            hosts[name] = _unlike([*hosts.get(name, []), *reasons])
    return {
        **common,
        "message": "\n".join(
            [f"{len(told)} of {meant} operations could not be {_ENDED.get(code, 'ended')} ({names}), and are left as they are:", *map(_named_guest, told)]
        ),
        "guest_is": "; ".join(_unlike(each["guest_is"] for each in told)),
        "hosts": hosts,
        "details": {
            "migration_uuids": [each["migration_uuid"] for each in told],
            "operations": {each["migration_uuid"]: {key: each[key] for key in ("instance", "code", "message")} for each in told},
        },
    }


def lines(told: Mapping[str, Any]) -> list[str]:
    """The same for people, in short lines."""
    return wrapped([*told["message"].splitlines(), *_guest(told), f"Code: {told['code']}"])


def first(told: Mapping[str, Any]) -> str:
    """Its first line, with what became of the guest; one that only announces others has the first of these too."""
    line, *rest = told["message"].splitlines()
    if line.endswith(":") and rest:
        line = f"{line} {rest[0].strip()}"
    return " ".join([line if line.endswith(".") else f"{line}.", *_guest(told, line)])


def named(told: Mapping[str, Any], task: str) -> str:
    """Its message with the name of the task that failed."""
    return told["message"] if not task or told["message"].startswith(f"{task}: ") else f"{task}: {told['message']}"


def _guest(told: Mapping[str, Any], said: str | None = None) -> list[str]:
    """What became of the guest, where it is known which one, or not known what became of it."""
    known = told["instance"] or (told["guest_is"] not in (_AS_BEFORE, _NO_GUEST) and "The guest")
    return [f"{known} is {told['guest_is']}."] if known and told["guest_is"] not in (told["message"] if said is None else said) else []


def _of_waiting(decision: Mapping[str, Any]) -> dict[str, Any]:
    told = {"instance": decision["instance_name"], "migration_uuid": decision["migration_uuid"], "guest_is": "where it was; its operation waits"}
    return {**told, "code": "has_to_wait", "message": f"{decision['instance_name']}: {decision['reason']}"}


def _named_guest(told: Mapping[str, Any]) -> str:
    return told["message"] if told["message"].startswith(f"{told['instance']}: ") else f"{told['instance']}: {told['message']}"


def _of_a_task(result: Mapping[str, Any], task: str) -> dict[str, Any]:
    items = [item for item in result.get("results") or [] if isinstance(item, Mapping) and (item.get("failed") or item.get("unreachable"))] or [result]
    worst = items[0]
    if any(item.get("_ansible_no_log") for item in (result, *items)):
        return {"code": worst.get("error_code"), "message": f"{task}: what it said is not shown, since it may hold a secret."}
    code = worst.get("error_code") or ("host_unreachable" if worst.get("unreachable") else "module_failed")
    said = "; ".join(_unlike(text(item.get("msg") or "no message").strip() for item in items))
    return {"code": code, "message": f"{task}: {said}" if task and not worst.get("error_code") else said, "details": worst.get("details")}


def _unlike(messages: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(messages))


def _reasons(details: Mapping[str, Any]) -> dict[str, list[str]]:
    """What the filters of a placement have against each host."""
    placement = details.get("placement")
    rejected = placement.get("rejected") if isinstance(placement, Mapping) else None
    told: Mapping[str, Any] = rejected if isinstance(rejected, Mapping) else {}
    return {name: [f"{reason['filter']}: {reason['reason']}" for reason in plain(reasons)] for name, reasons in told.items()}
