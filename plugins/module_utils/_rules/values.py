# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Tables of the values that a field may have: what is handed over is compared with one, field by field, before anything of it takes effect."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Union

from .errors import KvmfleetError, shown

MOST_ITEMS = 4096


@dataclass(frozen=True)
class Field:
    """The values that a field may have.

    :param expected: them in words; :param check: whether a value is one of them.
    :param below: of a file of this host, given the directories of images here, all directories in which it may lie; None for what names no file here.
    """

    expected: str
    check: Callable[[Any], bool]
    below: Callable[[Sequence[str]], Sequence[str]] | None = None


@dataclass(frozen=True)
class Null:
    """A field that may also be null."""

    of: Any


@dataclass(frozen=True)
class Absent:
    """A field that may be left out."""

    of: Any


@dataclass(frozen=True)
class Each:
    """A list of at most `most` values, each of them the same."""

    of: Any
    most: int = MOST_ITEMS


@dataclass(frozen=True)
class Named:
    """A mapping with any of the names that `name` allows."""

    name: Field
    of: Any
    most: int = MOST_ITEMS


Table = Union[Field, Null, Absent, Each, Named, Mapping[str, Any]]


def text(pattern: re.Pattern[str]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, str) and bool(pattern.fullmatch(value))


def one_of(*known: str) -> Field:
    return Field(" or ".join(known), lambda value: isinstance(value, str) and value in known)


def require(field: str, value: Any, table: Table) -> None:
    for where, found, known in values(field, value, table):
        if not known.check(found):
            raise invalid(where, found, known.expected)


_MAPPING = Field("a mapping", lambda value: False)
_LIST = Field("a list", lambda value: False)
_UNKNOWN = Field("a field that this release knows", lambda value: False)
_MISSING = Field("a value", lambda value: False)
_FEWER = Field("fewer of them", lambda value: False)


def values(field: str, value: Any, table: Table) -> Iterator[tuple[str, Any, Field]]:
    """Each value with its place and what it may be; what has not the form of the table comes with a field that allows nothing."""
    if isinstance(table, Null):
        if value is not None:
            yield from values(field, value, table.of)
    elif isinstance(table, Absent):
        yield from values(field, value, table.of)
    elif isinstance(table, Field):
        yield field, value, table
    elif isinstance(table, Each):
        if not isinstance(value, (list, tuple)):
            yield field, value, _LIST
        elif len(value) > table.most:
            yield field, f"{len(value)} items", _FEWER
        else:
            for number, item in enumerate(value):
                yield from values(f"{field}[{number}]", item, table.of)
    elif not isinstance(value, Mapping):
        yield field, value, _MAPPING
    elif isinstance(table, Named):
        if len(value) > table.most:
            yield field, f"{len(value)} items", _FEWER
        else:
            for name, item in value.items():
                yield f"{field} (name)", name, table.name
                yield from values(f"{field}.{name}", item, table.of)
    else:
        for name in value.keys() - table.keys():
            yield f"{field}.{shown(str(name), 40)}".lstrip("."), value[name], _UNKNOWN
        for name, known in table.items():
            if name in value:
                yield from values(f"{field}.{name}".lstrip("."), value[name], known)
            elif not isinstance(known, Absent):
                yield f"{field}.{name}".lstrip("."), "nothing", _MISSING


def invalid(field: str, value: Any, expected: str) -> KvmfleetError:
    text = shown(repr(value)[:400], 120)
    return KvmfleetError("handed_value", f"{field}: expected {expected}, another host told {text}.", field=field)


def fields(table: Table, place: str = "") -> Iterable[tuple[str, Field]]:
    """Every field of a table with its place, for whoever wants to try them all."""
    if isinstance(table, Field):
        yield place, table
    elif isinstance(table, (Null, Absent, Each)):
        yield from fields(table.of, place + ("[]" if isinstance(table, Each) else ""))
    elif isinstance(table, Named):
        yield f"{place}{{}}", table.name
        yield from fields(table.of, f"{place}.*")
    else:
        for name, known in table.items():
            yield from fields(known, f"{place}.{name}".lstrip("."))
