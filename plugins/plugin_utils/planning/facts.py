# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The facts of a host as far as planning reads them, and what it answers about a guest, checked once.

Facts may be old, of another release, or from a host that is not what it was. Where they cannot be read, nobody knows what the host
holds, so it counts as one that does not answer: then nothing is begun, and what is open waits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

from ansible_collections.kvmfleet.compute.plugins.module_utils._rules.domain_facts import DomainFacts
from ansible_collections.kvmfleet.compute.plugins.module_utils._rules.host_facts import HostFacts
from ansible_collections.kvmfleet.compute.plugins.module_utils._rules.statuses import TRANSITIONS
from ansible_collections.kvmfleet.compute.plugins.module_utils._rules.value_kinds import HOST, ID
from ansible_collections.kvmfleet.compute.plugins.module_utils._rules.values import Field
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.validation import ValidationError, integer, mapping, number, sequence, strings

Check = Callable[[str, Any], object]


def checked(state: Mapping[str, Any]) -> HostFacts:
    """The facts, or those of a host that is down for a reason that names the field, the value and what would be right.

    :param state: `host` and the fact `kvmfleet_host`, or what stands in for it where there is none.
    """
    try:
        _check("", state, _HOST)
    except ValidationError as exc:
        return {"host": state["host"], "up": False, "reachable": True, "down_reason": f"its facts cannot be read: {exc}; gather them anew"}
    return cast(HostFacts, {name: value for name, value in state.items() if value is not None})


def check_guest(domain: DomainFacts) -> None:
    """Whether a host can have answered this about a guest, in the form in which planning reads it. What the values may be is for `_rules.handed_plan` to say.

    :param domain: what the module domain_info tells.
    :raises ValidationError: for the first field that cannot be so.
    """
    _there("domain.", domain, "machine", "emulator")
    _check("domain.", domain, _GUEST)
    if not domain["refusals"]:  # else some may lack what could not be read
        _check("domain.", domain, {"disks": _each_file, "boot_files": _each_file})


def _check(where: str, value: Any, fields: Mapping[str, Check]) -> None:
    given = mapping(where.rstrip("."), value)
    for name, check in fields.items():
        check(f"{where}{name}", given.get(name))


def _text(field: str, value: Any) -> None:
    if not isinstance(value, str) or not value:
        raise ValidationError(field, value, "a string")


def _any_text(field: str, value: Any) -> None:
    if not isinstance(value, str):
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


def _there(where: str, value: Mapping[str, Any], *names: str) -> None:
    """What may be null has to be told as well."""
    for name in names:
        if name not in value:
            raise ValidationError(f"{where}{name}", None, "a value, or null")


def _each(fields: Mapping[str, Check], *there: str) -> Check:
    def check(field: str, value: Any) -> None:
        for index, item in enumerate(sequence(field, value)):
            _check(f"{field}[{index}].", item, fields)
            _there(f"{field}[{index}].", item, *there)

    return check


def _flag(field: str, value: Any) -> None:
    if not isinstance(value, bool):
        raise ValidationError(field, value, "true or false")


def _not_null(check: Check) -> Check:
    def checked_value(field: str, value: Any) -> None:
        if value is None:
            raise ValidationError(field, value, "a value")
        check(field, value)

    return checked_value


def _whole(least: int) -> Check:
    return lambda field, value: integer(field, value, least)


def _each_file(field: str, value: Any) -> None:
    """Disks and boot files: an empty drive has no more to tell, one in network storage tells where."""
    for index, item in enumerate(sequence(field, value)):
        if item["path"]:
            _check(f"{field}[{index}].", item, _FILE)
            for depth, layer in enumerate(item["chain"][1:], 1):
                _check(f"{field}[{index}].chain[{depth}].", layer, {"identity": _a(_IDENTITY)})


def _names(field: str, value: Any) -> None:
    for kind, names in mapping(field, value).items():
        for name, local in mapping(f"{field}.{kind}", names).items():
            _text(f"{field}.{kind}.{name}", local)


def _texts_by_name(field: str, value: Any) -> None:
    for name, texts in mapping(field, value).items():
        strings(f"{field}.{name}", texts)


def _by_name(fields: Mapping[str, Check]) -> Check:
    def check(field: str, value: Any) -> None:
        for name, item in mapping(field, value).items():
            _check(f"{field}.{name}.", item, fields)

    return check


_DOMAIN: dict[str, Check] = {
    **dict.fromkeys(("name", "uuid", "state"), _text),
    **dict.fromkeys(("vcpus", "memory_mb", "disk_gb"), _or_null(_number)),
}
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
_MAINTENANCE: dict[str, Check] = {
    "state": _text,
    "guests": _or_null(_by_name({"class": _or_null(_text), "destination": _or_null(_form(HOST)), "power_state": _or_null(_text)})),
}
_HOST: dict[str, Check] = {
    **dict.fromkeys(("vcpus", "vcpus_used", "memory_mb", "memory_mb_used", "local_gb", "local_gb_used", "num_instances", "num_io_ops"), _or_null(_number)),
    "availability_zone": _or_null(_text),
    "now": _or_null(_number),
    "bases": strings,
    "mappings": _names,
    "domains": _each(_DOMAIN),
    "instances": strings,
    "copy_rates": mapping,
    "claims": _each({**dict.fromkeys(("instance_name", "instance_uuid"), _text), **dict.fromkeys(("vcpus", "ram", "disk_mb"), _or_null(_number))}),
    "migrations": _each(_RECORD),
    "origins": _or_null(_by_name({"host": _text})),
    "maintenance": lambda field, value: _check(f"{field}.", value, _MAINTENANCE) if isinstance(value, Mapping) else None,
    "forced_migrations": _each({**_RECORD, "forced": _a({"lost_host": _text})}),
}

_IDENTITY: dict[str, Check] = {"sha256": _text, "size_bytes": _number}
_LAYER: dict[str, Check] = {"path": _text, "format": _text, "virtual_size": _number, "snapshots": strings}
_FILE: dict[str, Check] = {"path": _text, "format": _text, "virtual_size": _number, "allocated_bytes": _number, "chain": _not_null(_each(_LAYER))}
_DISK: dict[str, Check] = {
    **dict.fromkeys(("target", "device"), _text),
    **dict.fromkeys(("path", "pool", "volume", "source_type", "bus", "role", "left_out"), _or_null(_any_text)),
    **dict.fromkeys(("readonly", "root"), _flag),
    "network": _or_null(_a({"protocol": _text})),
}
_GUEST: dict[str, Check] = {
    **dict.fromkeys(("state", "xml_digest", "arch", "virt_type"), _text),
    **dict.fromkeys(("machine", "emulator"), _or_null(_any_text)),
    "persistent": _flag,
    "flavor": _a({"vcpus": _whole(1), "ram": _whole(1), "disk": _whole(0), "extra_specs": mapping}),
    "disks": _not_null(_each(_DISK, "path")),
    "boot_files": _each(_DISK, "path"),
    "interfaces": _not_null(_each({"type": _text, **dict.fromkeys(("source", "mac"), _or_null(_any_text)), "mtu": _or_null(_number)}, "source", "mac")),
    "firmware": _not_null(_a(dict.fromkeys(("kind", "loader", "nvram", "nvram_template"), _or_null(_any_text)))),
    "refusals": _not_null(_each({"code": _any_text, "reason": _any_text})),
    "agent": _a({"connected": _flag}),
    "cpu": _or_null(_a({"mode": _or_null(_any_text)})),
    "snapshots": _each({"name": _text}),
    "not_layered": strings,
    "not_in_place": _each({"code": _any_text, "reason": _any_text}),
    "free_targets": strings,
    "secrets": _each({"by": _text}),
    "references": _each(dict.fromkeys(("kind", "name", "answer", "reason"), _any_text)),
    "exclusive": _or_null(_texts_by_name),
    "live_differences": _each({"text": _text}),
}
