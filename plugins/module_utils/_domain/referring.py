# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Everything that a definition refers to outside itself, found by the table in `_domain.references`."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator

from . import references as _references
from .definition import text_of
from .reference import Reference

_ABSOLUTE_PATH = re.compile(r"(?:^|[=,:\s])/[^/\s]")
_Claimed = dict[tuple[int, str], _references.Rule]


def references(root: ET.Element) -> list[Reference]:
    """Everything outside the definition that it refers to, each with the answer of this release.

    Values that match a rule without a reason are kept and not listed. What no rule claims and yet looks like a path, or is a device that
    the table does not know and refers to something, is refused.
    """
    found, claimed = claims(root)
    found.extend(_argument_references(root))
    found.extend(_unknown_references(root, claimed))
    return list(dict.fromkeys(found))


def claims(root: ET.Element) -> tuple[list[Reference], _Claimed]:
    """What the table alone says: the references, and for every value that it decides the rule.

    A value goes by the identity of its element and `@attribute`, `.` for the text, or `` for the element as a whole.
    """
    claimed: _Claimed = {}
    found = []
    for rule in _references.RULES:
        for element in root.findall(rule.select):
            name = _claim(element, rule, claimed)
            if name is not None and (rule.reason or rule.answer == _references.CARRY):
                found.append(Reference(rule.kind, name, rule.answer, rule.reason, rule.select + ("/" + rule.value if rule.value else "")))
    return found, claimed


def _claim(element: ET.Element, rule: _references.Rule, claimed: _Claimed) -> str | None:
    """Take the value (or the whole subtree) for the rule; the name it carries, or None if the rule does not apply."""
    if claimed.keys() & ({(id(element), rule.value)} if rule.value else _values(element)):
        return None
    if not rule.value:
        claimed.update({value: rule for below in element.iter() for value in _values(below)})
        return " ".join(filter(None, (str(element.tag), element.get("type") or element.get("model") or element.get("name"))))
    value = text_of(element) if rule.value == "." else element.get(rule.value[1:])
    if not value or (rule.matching is not None and not re.fullmatch(rule.matching, value)):
        return None
    claimed[id(element), rule.value] = rule
    return value


def _values(element: ET.Element) -> set[tuple[int, str]]:
    return {(id(element), value) for value in ("", ".", *(f"@{name}" for name in element.attrib))}


def _argument_references(root: ET.Element) -> Iterator[Reference]:
    """What is passed through to QEMU and may name something outside: libvirt does not know what it means, so it cannot be carried."""
    for element in root:
        if isinstance(element.tag, str) and ":" in element.tag:
            for value, reason in _passed_through(element):
                yield Reference("qemu_argument", value, _references.REFUSE, reason, element.tag)


def _passed_through(element: ET.Element) -> Iterator[tuple[str, str]]:
    """Values that are not carried, each with the reason. Options stand before what they are given, as on a command line."""
    option: str | None = None
    for below in element.iter():
        kind = str(below.tag).rpartition(":")[2]
        values = [value for name, value in below.attrib.items() if not name.startswith("xmlns")]
        paths = [value for value in values if _ABSOLUTE_PATH.search(value)]
        yield from ((value, "an argument for QEMU names a file of this host") for value in paths)
        text = below.get("value") or ""
        if kind == "arg" and option is None:
            option = text
            if text not in _references.CARRIED_OPTIONS and not paths:
                yield text, f"of the arguments for QEMU, {', '.join(_references.CARRIED_OPTIONS)} are carried"
        elif kind == "arg":
            device = text.partition(",")[0] if option == "-device" else None
            option = None
            if paths:
                continue
            if device is not None and device not in _references.CARRIED_DEVICES:
                yield text, f"of the devices in arguments for QEMU, {', '.join(_references.CARRIED_DEVICES)} are carried"
            elif _references.REFERRING_PROPERTY.search(text):
                yield text, "an argument for QEMU may name something of this host"
        elif kind == "env" and not paths and below.get("name") not in _references.CARRIED_VARIABLES:
            yield below.get("name") or "", f"of the variables for QEMU, {', '.join(_references.CARRIED_VARIABLES)} are carried"
        elif kind == "property" and not paths and _references.REFERRING_PROPERTY.search(f"{below.get('name')}="):
            yield text, "a property of a device of QEMU may name something of this host"


def _unknown_references(root: ET.Element, claimed: _Claimed) -> Iterator[Reference]:
    for element, place in _walk(root, ""):
        unknown_device = place.startswith("devices/") and place.split("/")[1] not in _references.KNOWN_DEVICES
        values = [("@" + name, value) for name, value in element.attrib.items() if not name.startswith("xmlns")] + [(".", text_of(element) or "")]
        for name, value in values:
            refers = value.startswith("/") or (unknown_device and name[1:] in _references.REFERRING_ATTRIBUTES)
            if refers and (id(element), name) not in claimed:
                yield Reference("unknown", value, _references.REFUSE, "this release does not know what it refers to", f"{place}/{name}")


def _walk(element: ET.Element, place: str) -> Iterator[tuple[ET.Element, str]]:
    """Elements below, with their path, leaving out comments, free text and arguments for QEMU."""
    for child in element:
        if isinstance(child.tag, str) and ":" not in child.tag:
            path = f"{place}/{child.tag}".lstrip("/")
            if path not in _references.FREE_TEXT:
                yield child, path
                yield from _walk(child, path)
