# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Input fields, checked once at the boundary.

Every check takes the path of the field and its value, returns a plain Python value (Ansible hands over tagged and lazy ones) and raises
`ValidationError`, which names the field, the value and what would be right.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from ansible_collections.kvmfleet.compute.plugins.module_utils._rules.errors import KvmfleetError

# Beyond this the product of a capacity and a ratio is no longer exact, so the boundary of a filter would be wrong.
LARGEST = 2**53

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+@:-]{0,127}")
# Of what libvirt allows, without what means something in a path, in a template or between quotes.
_DOMAIN_NAME = re.compile(r"\w([\w .,+@:()\[\]&#=~!-]{0,126}[\w.,+@:()\[\]&#=~!-])?")
_NUMBERS = (int, float)
_NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?")
_TEXT = frozenset({str})
_BOOLEANS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}


class ValidationError(KvmfleetError):
    """A value that cannot be accepted, `invalid_value`: `field: expected ..., got ...`."""

    def __init__(self, field: str, value: object, expected: str) -> None:
        super().__init__("invalid_value", f"{field}: expected {expected}, got {_shown(value)}", field=field)
        self.field = field
        self.value = value
        self.expected = expected

    @classmethod
    def not_one_of(cls, field: str, value: object, known: Collection[str]) -> ValidationError:
        """An unknown key or name; the nearest known one is suggested."""
        near = difflib.get_close_matches(str(value), known, n=1)
        hint = f" (did you mean '{near[0]}'?)" if near else ""
        return cls(field, value, f"one of {', '.join(known)}{hint}")


def _shown(value: object) -> str:
    if value is None:
        return "nothing"
    text = repr(value)
    return text if len(text) <= 120 else f"{text[:117]}..."


def mapping(field: str, value: object) -> Mapping[str, Any]:
    """A mapping; null stands for an empty one."""
    if value is None:
        return {}
    if isinstance(value, (dict, Mapping)):
        return value
    raise ValidationError(field, value, "a mapping")


def known_mapping(field: str, value: object, known: Collection[str]) -> Mapping[str, Any]:
    """A mapping without any key but the known ones, so that a misspelt key is not a silent default."""
    checked = mapping(field, value)
    for key in checked:
        if key not in known:
            raise ValidationError.not_one_of(f"{field}.{key}", key, known)
    return checked


def sequence(field: str, value: object) -> Sequence[Any]:
    """A list; null stands for an empty one."""
    if value is None:
        return ()
    if isinstance(value, list) or (isinstance(value, Sequence) and not isinstance(value, (str, bytes))):
        return value
    raise ValidationError(field, value, "a list")


def strings(field: str, value: object) -> Sequence[str]:
    """A list of strings; null stands for an empty one."""
    items = sequence(field, value)
    if not set(map(type, items)) <= _TEXT:
        for index, item in enumerate(items):
            if not isinstance(item, str):
                raise ValidationError(f"{field}[{index}]", item, "a string")
    return items


def number(field: str, value: object, minimum: float | None = None, *, above: float | None = None) -> int | float:
    """A finite number, also written as decimal digits; an int stays an int."""
    if type(value) in _NUMBERS and -LARGEST <= value <= LARGEST and (minimum is None or value >= minimum) and (above is None or value > above):
        return value
    parsed = _parsed(value)
    if parsed is None or not -LARGEST <= parsed <= LARGEST or (minimum is not None and parsed < minimum) or (above is not None and parsed <= above):
        bound = f" >= {minimum:g}" if minimum is not None else f" > {above:g}" if above is not None else ""
        raise ValidationError(field, value, f"a number of at most {LARGEST}" if parsed is not None and parsed > LARGEST else f"a number{bound}")
    return parsed


def _parsed(value: object) -> int | float | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value)
    if isinstance(value, str) and len(value) <= 32 and _NUMBER.fullmatch(value):
        return float(value) if "." in value else int(value)
    return None


def integer(field: str, value: object, minimum: int) -> int:
    """A whole number, also written as decimal digits (surveys hand over strings); floats and booleans are refused."""
    if isinstance(value, int) and not isinstance(value, bool):
        parsed: int | None = int(value)
    elif isinstance(value, str) and len(value) <= 16 and value.isascii() and value.isdigit():
        parsed = int(value)
    else:
        parsed = None
    if parsed is None or not minimum <= parsed <= LARGEST:
        raise ValidationError(field, value, f"a whole number >= {minimum}")
    return parsed


def boolean(field: str, value: object, default: bool) -> bool:
    """A boolean, or the words that inventories use for one; null stands for the default."""
    if value is None:
        return default
    if isinstance(value, bool):
        return value
    word = _BOOLEANS.get(str(value).lower()) if isinstance(value, (str, int)) else None
    if word is None:
        raise ValidationError(field, value, "true or false")
    return word


def check_name(field: str, value: object) -> str:
    """A name of a flavor, zone or host that is safe in a path, in a command and in a message."""
    if not isinstance(value, str) or not _NAME.fullmatch(value) or ".." in value:
        raise ValidationError(
            field, value, "a name of 1 to 128 characters out of letters, digits and _ . + @ : - that starts with a letter or digit and has no '..'"
        )
    return str(value)


def check_domain_name(field: str, value: object) -> str:
    """A name or UUID of an instance, as tools give them to domains, that is safe in a path and in a message."""
    if not isinstance(value, str) or not _DOMAIN_NAME.fullmatch(value) or ".." in value:
        raise ValidationError(
            field,
            value,
            "a name of 1 to 128 characters out of letters and digits of any script, spaces and _ . , + @ : ( ) [ ] & # = ~ ! - that starts with a letter, "
            "digit or _, does not end with a space and has no '..' (virsh domrename gives a domain another name)",
        )
    return str(value)


def optional_name(field: str, value: object) -> str | None:
    """A name, or None when it is null or empty (a survey question left blank)."""
    return None if value is None or value == "" else check_name(field, value)


FLAVOR_KEYS = ("name", "vcpus", "ram", "disk", "ephemeral", "swap", "extra_specs")
FLAVOR_KEYS_OF_OTHERS = ("id", "rxtx_factor", "is_public", "description", "access_project_ids", "properties")
"""What OpenStack's clients and Ansible's OpenStack modules write of a flavor beside that: taken, and without a meaning here, but for `properties`."""


def flavor(field: str, value: object) -> dict[str, Any]:
    """A flavor as the user writes it or OpenStack exports it, complete and with plain numbers.

    :return: `vcpus`, `ram` (MiB), `disk` (GiB; 0 leaves the root disk as it is), `ephemeral` (GiB), `swap` (MiB), `extra_specs`, `name` where one is given.
    """
    if not isinstance(value, Mapping):
        raise ValidationError(field, value, "a mapping with vcpus, ram (MiB) and, optionally, disk (GiB)")
    given = mapping(field, value)
    for key in given:
        if key not in FLAVOR_KEYS and key not in FLAVOR_KEYS_OF_OTHERS and not _of_an_extension(key):
            raise ValidationError.not_one_of(f"{field}.{key}", key, FLAVOR_KEYS)
    specs = "properties" if given.get("extra_specs") is None else "extra_specs"
    checked = {
        "vcpus": integer(f"{field}.vcpus", given.get("vcpus"), 1),
        "ram": integer(f"{field}.ram", given.get("ram"), 1),
        **{key: integer(f"{field}.{key}", 0 if given.get(key) in (None, "") else given[key], 0) for key in ("disk", "ephemeral", "swap")},
        "extra_specs": {str(key): _spec(f"{field}.{specs}.{key}", text) for key, text in mapping(f"{field}.{specs}", given.get(specs)).items()},
    }
    name = optional_name(f"{field}.name", given.get("name"))
    return checked if name is None else {"name": name, **checked}


def ignored_flavor_keys(value: object) -> list[str]:
    """What is written of a flavor that has no meaning here."""
    given = mapping("flavor", value)
    return sorted(str(key) for key in given if (key in FLAVOR_KEYS_OF_OTHERS and key != "properties") or _of_an_extension(key))


def _of_an_extension(key: object) -> bool:
    """Such as `OS-FLV-DISABLED:disabled`, `OS-FLV-EXT-DATA:ephemeral` or `os-flavor-access:is_public` of Nova's API."""
    return isinstance(key, str) and key.lower().startswith(("os-flv-", "os-flavor-access:"))


def _spec(field: str, value: object) -> str:
    """The text of an extra spec; YAML makes a number or a boolean of what is written without quotes."""
    if isinstance(value, str):
        return str(value)
    if isinstance(value, bool):
        return str(bool(value)).lower()
    if isinstance(value, (int, float)):
        return str(value)
    raise ValidationError(field, value, "a text or a number")
