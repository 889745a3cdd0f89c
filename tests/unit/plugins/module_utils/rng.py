# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Every place of a RELAX NG schema that holds a value of its own, with the datatype of the value.

A reader of the grammar, no validator: it tells which values a document may have, not which ones it may have together.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

Attributes = tuple[tuple[str, str], ...]
_STRINGS = ("string", "token", "normalizedString", "NCName", "Name", "NMTOKEN", "anyURI")


@dataclass(frozen=True)
class Step:
    """An element on the way to a place, with attributes that it may have there."""

    element: str
    attributes: Attributes = ()


@dataclass(frozen=True)
class Place:
    """Where a value may be: `value` is `@attribute`, or `.` for the text of the last element.

    :param datatype: name of the definition that the value is of; where the schema gives none, `text`, or the type of the datatype library and its pattern.
    :param string: it may be any text, or any of a pattern, in contrast to a number.
    """

    steps: tuple[Step, ...]
    value: str
    datatype: str
    string: bool

    @property
    def path(self) -> str:
        return "/".join((*(step.element for step in self.steps), self.value))


class Grammar:
    """A schema with all that it includes.

    :param telling: elements and those of their attributes that a `Step` tells, once with each keyword that they may have.
    """

    def __init__(self, schema: Path, telling: Collection[tuple[str, str]] = ()) -> None:
        self._definitions: dict[str, list[ET.Element]] = {}
        self._telling = telling
        self._names = {name for _element, name in telling}
        self._given: dict[ET.Element, set[Attributes]] = {}
        self._read(schema, set())

    def places(self, definition: str) -> set[Place]:
        """All places below a definition, without those where only keywords may be, and without elements of any name."""
        return set(self._below([_reference(definition)], [], (), ()))

    def strings(self) -> set[str]:
        """Names of the definitions of values that may be any text, or any of a pattern."""
        return {name for name in self._definitions if self._is_datatype(name) and self._is_string(_reference(name))}

    def _read(self, schema: Path, seen: set[Path]) -> None:
        if schema not in seen:
            seen.add(schema)
            for child in ET.parse(schema).getroot():  # noqa: S314 - libvirt's own
                if _tag(child) == "include":
                    self._read(schema.parent / child.get("href", ""), seen)
                elif _tag(child) == "define":
                    _qualify(child, "")
                    self._definitions.setdefault(child.get("name", ""), []).append(child)

    def _below(self, patterns: Sequence[ET.Element], beside: list[ET.Element], steps: tuple[Step, ...], inside: tuple[str, ...]) -> Iterator[Place]:
        """The places of patterns that follow each other, in an element that has what is `beside` too.

        :param inside: the definitions on the way here; one that stands in itself is not entered again.
        """
        for index, pattern in enumerate(patterns):
            others = [*beside, *patterns[:index], *patterns[index + 1 :]]
            tag, name = _tag(pattern), pattern.get("name", "")
            if tag in ("data", "text", "attribute") or (tag == "ref" and self._is_datatype(name)):
                for value in self._values(pattern):
                    for here in self._with_attributes(steps, others):
                        yield Place(here, "@" + name if tag == "attribute" else ".", self._described(value), self._is_string(value))
            elif tag == "element":
                for here in self._with_attributes(steps, others) if name else ():
                    yield from self._below(list(pattern), [], (*here, Step(name)), inside)
            elif tag == "ref":
                for body in self._definitions[name] if name not in inside else ():
                    yield from self._below(list(body), others, steps, (*inside, name))
            elif tag == "choice":
                for child in pattern:
                    yield from self._below([child], others, steps, inside)
            else:
                yield from self._below(list(pattern), others, steps, inside)

    def _with_attributes(self, steps: tuple[Step, ...], beside: list[ET.Element]) -> list[tuple[Step, ...]]:
        """The way here, once with each set of telling attributes that the last element gets from the patterns beside."""
        if not steps:
            return [()]
        element = steps[-1].element
        told = {tuple(item for item in attributes if (element, item[0]) in self._telling) for attributes in self._together(beside)}
        return [(*steps[:-1], Step(element, attributes)) for attributes in told]

    def _attributes(self, pattern: ET.Element) -> set[Attributes]:
        """The sets of telling attributes that a pattern may give to the element that it is in."""
        if pattern not in self._given:
            self._given[pattern] = set()  # met again inside itself, it gives nothing else
            self._given[pattern] = self._find_attributes(pattern)
        return self._given[pattern]

    def _find_attributes(self, pattern: ET.Element) -> set[Attributes]:
        tag, name = _tag(pattern), pattern.get("name", "")
        if tag == "notAllowed":
            return set()
        if tag == "attribute" and name in self._names:
            return {((name, leaf.text or ""),) if _tag(leaf) == "value" else () for leaf in self._leaves(pattern)}
        if tag in ("attribute", "element"):
            return {()}
        if tag == "choice":
            return {found for child in pattern for found in self._attributes(child)}
        if tag == "ref":
            return {found for body in self._definitions[name] for found in self._together(list(body))}
        return self._together(list(pattern)) | ({()} if tag in ("optional", "zeroOrMore") else set())

    def _together(self, patterns: list[ET.Element]) -> set[Attributes]:
        found: set[Attributes] = {()}
        for pattern in patterns:
            found = {tuple(sorted({**dict(one), **dict(other)}.items())) for one in found for other in self._attributes(pattern)}
        return found

    def _values(self, pattern: ET.Element) -> Iterator[ET.Element]:
        """What a value may be, keywords left out: references to definitions of values, and what stands in the schema without a name."""
        tag = _tag(pattern)
        if tag == "attribute" and not len(pattern):
            yield ET.Element("text")  # as the short form of an attribute means it
        elif tag in ("data", "text") or (tag == "ref" and any(_tag(leaf) != "value" for leaf in self._leaves(pattern))):
            yield pattern
        elif tag != "ref":
            for child in pattern:
                yield from self._values(child)

    def _is_datatype(self, name: str) -> bool:
        return all(_tag(leaf) in ("value", "data", "text") for leaf in self._leaves(_reference(name)))

    def _is_string(self, pattern: ET.Element) -> bool:
        return any(_tag(leaf) == "text" or leaf.get("type") in _STRINGS for leaf in self._leaves(pattern) if _tag(leaf) != "value")

    def _described(self, value: ET.Element) -> str:
        if _tag(value) == "ref":
            return value.get("name", "")
        return " ".join((value.get("type", "text"), *(parameter.text or "" for parameter in value if parameter.get("name") == "pattern")))

    def _leaves(self, pattern: ET.Element, inside: tuple[str, ...] = ()) -> Iterator[ET.Element]:
        """What a value consists of; elements and attributes show that the pattern is not one of a value."""
        tag, name = _tag(pattern), pattern.get("name", "")
        if tag in ("value", "data", "text", "element") or (tag == "attribute" and inside):
            yield pattern
        elif tag != "ref":
            for child in pattern:
                yield from self._leaves(child, inside)
        elif name not in inside:
            for body in self._definitions[name]:
                yield from self._leaves(body, (*inside, name))


def _tag(pattern: ET.Element) -> str:
    return pattern.tag.rpartition("}")[2]


def _reference(name: str) -> ET.Element:
    return ET.Element("ref", name=name)


def _qualify(pattern: ET.Element, namespace: str) -> None:
    """Write the namespace that elements have from those around them into their names."""
    namespace = pattern.get("ns", namespace)
    if _tag(pattern) == "element" and pattern.get("name") and namespace:
        pattern.set("name", f"{{{namespace}}}{pattern.get('name')}")
    for child in pattern:
        _qualify(child, namespace)
