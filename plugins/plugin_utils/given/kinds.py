# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Kinds of values that a person gives: one reader each, for whatever form a value comes in.

An inventory in INI hands over text, tuples and Python's words, `-e key=value` text, a survey text and blanks, YAML and JSON proper values. A reader
takes any of them for the one meaning that it can have, or raises a `ValidationError` that names the field, the value and what would be right.
What was read may be read again, and comes out as it is.
"""

from __future__ import annotations

import json
import os.path
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import yaml

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.validation import (
    LARGEST,
    ValidationError,
    boolean,
    check_domain_name,
    check_name,
    integer,
    number,
)

Read = Callable[[str, Any], Any]

MAPPED = ("bridges", "networks", "pools", "emulators", "firmware")
_UNITS = "BKMGTPEZY"
_BYTES = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([KMGTPEZY]?)(?:I?B)?", re.IGNORECASE)
_PORTS = re.compile(r"([0-9]{1,5})(?:\s*-\s*([0-9]{1,5}))?")
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_CPUS = re.compile(r"\^?[0-9]+(-[0-9]+)?(,\^?[0-9]+(-[0-9]+)?)*")
_URL = re.compile(r"(https?://|file:///?)[^\s]+")
_TRUE, _FALSE = ("true", "yes", "on", "1", "y", "t"), ("false", "no", "off", "0", "n", "f")


def is_blank(value: object) -> bool:
    """Whether nothing was given: null, an empty answer, or one of spaces alone. An empty list or mapping is something."""
    return value is None or (isinstance(value, str) and not value.strip())


def text(field: str, value: Any) -> str:
    """Words for people; what YAML took for a number or a boolean is the word that was written."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (str, int, float)):
        return str(value).strip()
    raise ValidationError(field, value, "a text")


def name(field: str, value: Any) -> str:
    """The name of a host, a zone, a flavor or a disk, which may look like a number."""
    return check_name(field, _word(value))


def domain_name(field: str, value: Any) -> str:
    """The name or UUID of an instance."""
    return check_domain_name(field, _word(value))


def texts(field: str, value: Any) -> list[str]:
    """Words for people, or names that may have spaces."""
    return [text(f"{field}[{index}]", item) for index, item in enumerate(_items(field, value, "a list of texts"))]


def names(field: str, value: Any) -> list[str]:
    """Names of hosts."""
    return [name(f"{field}[{index}]", item) for index, item in enumerate(_items(field, value, "a list of names"))]


def flag(field: str, value: Any) -> bool:
    """A boolean, whichever word stands for it."""
    word = value.strip().lower() if isinstance(value, str) else value
    if isinstance(word, str):
        word = "true" if word in _TRUE else "false" if word in _FALSE else value
    elif isinstance(word, float) and word in (0.0, 1.0):
        word = int(word)
    return boolean(field, word, False)


def seconds(field: str, value: Any) -> int | float:
    """How long, or how many: a number that is not negative."""
    return number(field, _number(value), 0)


def ratio(field: str, value: Any) -> int | float:
    """A number above zero."""
    return number(field, _number(value), above=0)


def whole(minimum: int) -> Read:
    """A whole number from there on."""

    def read(field: str, value: Any) -> int:
        given = _number(value)
        return integer(field, int(given) if isinstance(given, float) and given.is_integer() and abs(given) <= LARGEST else given, minimum)

    return read


def amount(field: str, value: Any) -> int:
    """Bytes, also with a unit: `100M`."""
    given = _number(value)
    match = _BYTES.fullmatch(given) if isinstance(given, str) and len(given) <= 40 else None
    if match and not given.endswith("b"):  # which is a bit to Ansible
        size = float(match[1]) * 1024 ** _UNITS.index(match[2].upper() or "B")
        if size <= LARGEST:
            return int(size)
    if isinstance(given, (int, float)) and not isinstance(given, bool) and 0 <= given <= LARGEST:
        return int(given)
    raise ValidationError(field, value, "a number of bytes, such as 104857600 or 100M")


def ports(field: str, value: Any) -> str:
    """TCP ports as FIRST-LAST."""
    match = _PORTS.fullmatch(str(value).strip()) if isinstance(value, (str, int)) and not isinstance(value, bool) else None
    first, last = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
    if not 1024 <= first <= last <= 65535:
        raise ValidationError(field, value, "TCP ports as FIRST-LAST within 1024-65535, such as 49152-49215")
    return f"{first}-{last}"


def is_uuid(value: object) -> bool:
    """Whether it has the form of a UUID."""
    return isinstance(value, str) and bool(_UUID.fullmatch(value.strip().lower()))


def uuid(field: str, value: Any) -> str:
    """A UUID."""
    if not is_uuid(value):
        raise ValidationError(field, value, "a UUID such as ff73d022-5e02-5ca0-b689-04fd7031faf5")
    return str(value).strip().lower()


def url(field: str, value: Any) -> str:
    """An address that is fetched from."""
    if not isinstance(value, str) or not _URL.fullmatch(value.strip()):
        raise ValidationError(field, value, "a URL that starts with https://, http:// or file://")
    return str(value.strip())


def cpu_set(field: str, value: Any) -> str:
    """Numbers of CPUs; INI makes a number or a tuple of them."""
    parts = [value] if isinstance(value, (str, int)) else list(value) if _is_sequence(value) else []
    written = ",".join("".join(str(part).split()) for part in parts if not isinstance(part, bool))
    if not _CPUS.fullmatch(written):
        raise ValidationError(field, value, "numbers of CPUs such as 4-11,^8")
    return written


def one_of(*known: str) -> Read:
    """One of a few words."""

    def read(field: str, value: Any) -> str:
        word = value.strip() if isinstance(value, str) else value
        # A word that YAML knows as a boolean is one that nobody meant for a choice.
        if not isinstance(word, str) or word not in known:
            raise ValidationError.not_one_of(field, value, known)
        return str(word)

    return read


def some_of(*known: str) -> Read:
    """At least one of a few words, in the order that counts."""
    choice = one_of(*known)

    def read(field: str, value: Any) -> list[str]:
        chosen = [choice(f"{field}[{index}]", item) for index, item in enumerate(_items(field, value, f"a list out of {', '.join(known)}"))]
        if not chosen:
            raise ValidationError(field, value, f"at least one of {', '.join(known)}")
        return chosen

    return read


def local_path(field: str, value: Any) -> str:
    """A path on the controller."""
    if not isinstance(value, str) or not value.isprintable():
        raise ValidationError(field, value, "a path on the controller")
    return str(value.strip())


def directory(field: str, value: Any) -> str:
    """A directory of a host, as an absolute path that is the shortest for it and is not the root; a slash at its end says nothing."""
    path = str(value).strip() if isinstance(value, str) else ""
    path = path.rstrip("/") or path[:1]
    better = "/" + os.path.normpath(path).lstrip("/")
    if path != better or path == "/" or not path.isprintable() or "$" in path:
        hint = f" (did you mean {better!r}?)" if path.strip("/.~") and path != better and "$" not in path and "~" not in path else ""
        raise ValidationError(field, value, f"the absolute path of a directory other than /, without '.', '..', '//' and '$'{hint}")
    return path


def directories(field: str, value: Any) -> list[str]:
    """Directories of a host."""
    found = [directory(f"{field}[{index}]", item) for index, item in enumerate(_items(field, value, "a list of directories"))]
    return list(dict.fromkeys(found))


def directories_by_name(field: str, value: Any) -> dict[str, str]:
    """Directories of a host, each with the name that the fleet has for it."""
    given = _mapping(field, value, "a mapping of names to directories")
    return {name(field, key): directory(f"{field}.{key}", path) for key, path in given.items()}


def mappings(field: str, value: Any) -> dict[str, dict[str, str]]:
    """What a host calls otherwise than others, by kind."""
    found: dict[str, dict[str, str]] = {}
    for kind, given in _mapping(field, value, f"a mapping of {', '.join(MAPPED)}").items():
        if kind not in MAPPED:
            raise ValidationError.not_one_of(f"{field}.{kind}", kind, MAPPED)
        found[kind] = {}
        for called, local in ({} if is_blank(given) else _mapping(f"{field}.{kind}", given, "a mapping of names")).items():
            if is_blank(local):
                raise ValidationError(f"{field}.{kind}.{called}", local, "what this host calls it")
            found[kind][called] = text(f"{field}.{kind}.{called}", local)
    return found


def aggregates(field: str, value: Any) -> list[dict[str, Any]]:
    """Host aggregates."""
    found = []
    expected = "a list of mappings with name and metadata"
    for index, item in enumerate(_items(field, value, expected)):
        where = f"{field}[{index}]"
        given = _mapping(where, item, "a mapping with name and metadata")
        for key in given:
            if key not in ("name", "metadata"):
                raise ValidationError.not_one_of(f"{where}.{key}", key, ("name", "metadata"))
        metadata = given.get("metadata")
        found.append(
            {
                "name": name(f"{where}.name", given.get("name")),
                "metadata": {} if is_blank(metadata) else dict(_mapping(f"{where}.metadata", metadata, "a mapping")),
            }
        )
    return found


def flavors(field: str, value: Any) -> dict[str, Any]:
    """Flavors by name; what is in each is read where one is chosen."""
    found = {}
    for called, flavor in _mapping(field, value, "a mapping of flavor names to vcpus, ram (MiB) and disk (GiB)").items():
        given = _mapping(f"{field}.{called}", flavor, "a mapping with vcpus, ram (MiB) and disk (GiB)")
        found[called] = {key: item for key, item in given.items() if not is_blank(item)}
    return found


def options(field: str, value: Any) -> dict[str, Any]:
    """A mapping that its user reads key by key; blank ones count as not given."""
    return {key: item for key, item in _mapping(field, value, "a mapping").items() if not is_blank(item)}


def handed_over(field: str, value: Any) -> dict[str, Any]:
    """A mapping that one role makes for another, as it is."""
    return _mapping(field, value, "a mapping")


def drained_for(field: str, value: Any) -> str:
    """Why a host is drained. A no is no reason."""
    if isinstance(value, bool) or (isinstance(value, str) and value.strip().lower() in ("true", "false", "yes", "no", "on", "off")):
        return "no reason was given" if flag(field, value) else ""
    return text(field, value)


def _word(value: Any) -> Any:
    """A name as it was written, where YAML or INI took it for a whole number."""
    return value.strip() if isinstance(value, str) else str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _number(value: Any) -> Any:
    return value.strip() if isinstance(value, str) else value


def _is_sequence(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, (str, bytes))


def _items(field: str, value: Any, expected: str) -> list[Any]:
    """The items of a list, also of one that is written as text: one item, several with commas or in lines, YAML or JSON. Blank ones say nothing."""
    if isinstance(value, str):
        written = value.strip()
        parsed = _parsed(written)
        if parsed is None and not written.startswith(("[", "{")):
            parsed = re.split(r"[,\n]", written)
        if not isinstance(parsed, list):
            raise ValidationError(field, value, expected)
        value = parsed
    elif isinstance(value, int) and not isinstance(value, bool):
        value = [value]
    if not _is_sequence(value):
        raise ValidationError(field, value, expected)
    return [plain(item) for item in value if not is_blank(item)]


def _mapping(field: str, value: Any, expected: str) -> dict[str, Any]:
    """A mapping, also one that is written as YAML or JSON; its keys are texts."""
    given = _parsed(value.strip()) if isinstance(value, str) else value
    if not isinstance(given, Mapping):
        raise ValidationError(field, value, expected)
    return plain(given)


def _parsed(written: str) -> Any:
    """What YAML or JSON makes of it, if it looks like a list or a mapping; else None."""
    looks_like_block = all(re.match(r"\s*(- |[\w:-]+:( |$)|$)", line) for line in written.splitlines())
    if not written.startswith(("[", "{")) and not looks_like_block:
        return None
    for load in (json.loads, yaml.safe_load):
        try:
            found = load(written)
        except (ValueError, yaml.YAMLError, RecursionError):
            continue
        return found if isinstance(found, (list, dict)) else None
    return None


def plain(value: Any) -> Any:
    """Without Ansible's containers and tags."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if _is_sequence(value):
        return [plain(item) for item in value]
    if value is None or isinstance(value, bool):
        return value
    return int(value) if isinstance(value, int) else float(value) if isinstance(value, float) else str(value)
