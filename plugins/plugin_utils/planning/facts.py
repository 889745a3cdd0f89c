# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The facts of a host as far as planning reads them, checked once.

They may be old, of another release, or from a host that is not what it was. Where they cannot be read, nobody knows what the host
holds, so it counts as one that does not answer: then nothing is begun, and what is open waits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ansible_collections.kvmfleet.compute.plugins.module_utils._handed import HOST, ID, Field
from ansible_collections.kvmfleet.compute.plugins.module_utils._journal import TRANSITIONS
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.validation import ValidationError, mapping, number, sequence, strings

Check = Callable[[str, Any], object]


def checked(state: Mapping[str, Any]) -> dict[str, Any]:
    """The facts, or those of a host that is down for a reason that names the field, the value and what would be right.

    :param state: `host` and the fact `kvmfleet_host`, or what stands in for it where there is none.
    """
    try:
        _check("", state, _HOST)
    except ValidationError as exc:
        return {"host": state["host"], "up": False, "reachable": True, "down_reason": f"its facts cannot be read: {exc}; gather them anew"}
    return {name: value for name, value in state.items() if value is not None}


def _check(where: str, value: Any, fields: Mapping[str, Check]) -> None:
    given = mapping(where.rstrip("."), value)
    for name, check in fields.items():
        check(f"{where}{name}", given.get(name))


def _text(field: str, value: Any) -> None:
    if not isinstance(value, str) or not value:
        raise ValidationError(field, value, "a string")


def _form(known: Field) -> Check:
    """What ends up in a path, or names a host that something is delegated to."""

    def check(field: str, value: Any) -> None:
        if not known.check(value):
            raise ValidationError(field, value, known.expected)

    return check


def _number(field: str, value: Any) -> None:
    number(field, value, 0)


def _one_of(*known: str) -> Check:
    def check(field: str, value: Any) -> None:
        if value not in known:
            raise ValidationError.not_one_of(field, value, known)

    return check


def _or_null(check: Check) -> Check:
    return lambda field, value: None if value is None else check(field, value)


def _a(fields: Mapping[str, Check]) -> Check:
    return lambda field, value: _check(f"{field}.", value, fields)


def _each(fields: Mapping[str, Check]) -> Check:
    def check(field: str, value: Any) -> None:
        for index, item in enumerate(sequence(field, value)):
            _check(f"{field}[{index}].", item, fields)

    return check


def _names(field: str, value: Any) -> None:
    for kind, names in mapping(field, value).items():
        for name, local in mapping(f"{field}.{kind}", names).items():
            _text(f"{field}.{kind}.{name}", local)


_DOMAIN: dict[str, Check] = {"name": _text, "uuid": _text, "state": _text}
_PROGRESS: dict[str, Check] = {"percent": _number, "bytes_total": _number, "rate": _number, "eta": _or_null(_number)}
_RECORD: dict[str, Check] = {
    **dict.fromkeys(("instance_name", "migration_type", "step"), _text),
    **dict.fromkeys(("uuid", "instance_uuid"), _form(ID)),
    "source_host": _form(HOST),
    "role": _one_of("source", "destination", "in_place"),
    "status": _one_of(*TRANSITIONS),
    "destination_host": _or_null(_form(HOST)),
    "updated_at": _number,
    "lease_until": _or_null(_number),
    "old_flavor": _or_null(mapping),
    "new_flavor": _or_null(mapping),
    "forced": _or_null(_a({"lost_host": _text})),
    "progress": _or_null(_a(_PROGRESS)),
    "has_run": _or_null(_text),
}
_HOST: dict[str, Check] = {
    **dict.fromkeys(("vcpus", "vcpus_used", "memory_mb", "memory_mb_used", "local_gb", "local_gb_used", "num_instances", "num_io_ops"), _or_null(_number)),
    "availability_zone": _or_null(_text),
    "now": _or_null(_number),
    "bases": strings,
    "mappings": _names,
    "domains": _each(_DOMAIN),
    "claims": _each({"instance_name": _text, "instance_uuid": _text}),
    "migrations": _each(_RECORD),
    "forced_migrations": _each({**_RECORD, "forced": _a({"lost_host": _text})}),
}
