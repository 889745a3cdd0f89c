# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Putting elements into a definition and taking them out again, and the records that we keep in its metadata."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterable, Mapping

from .definition import METADATA_NAMESPACE, metadata_element, own_record

_PREFIX = "kvmfleet"


def insert_after(parent: ET.Element, element: ET.Element, siblings: Iterable[str]) -> None:
    """Insert the element after the last of the siblings with one of these names, else as the first one."""
    names = frozenset(siblings)
    positions = [index for index, child in enumerate(parent) if child.tag in names]
    parent.insert(max(positions, default=-1) + 1, element)


def remove(parent: ET.Element, child: ET.Element) -> None:
    """Remove the child, and leave the text that follows it where it is."""
    index = list(parent).index(child)
    if child.tail and child.tail.strip():
        if index:
            parent[index - 1].tail = (parent[index - 1].tail or "") + child.tail
        else:
            parent.text = (parent.text or "") + child.tail
    parent.remove(child)


def record(root: ET.Element, name: str, attributes: Mapping[str, str] | None, items: Iterable[tuple[str, Mapping[str, str]]] = ()) -> None:
    """Set our record `name`, or remove it (None) and whatever is empty then.

    :param items: name and attributes of the elements below it.
    """
    metadata, own, existing = root.find("metadata"), metadata_element(root), own_record(root, name)
    if attributes is not None:
        if metadata is None:
            metadata = ET.Element("metadata")
            insert_after(root, metadata, ("description", "title", "genid", "uuid", "name"))
        if own is None:
            own = ET.SubElement(metadata, f"{_PREFIX}:instance", {f"xmlns:{_PREFIX}": METADATA_NAMESPACE})
        prefix = own.tag.rpartition(":")[0]
        if existing is None:
            existing = ET.Element(f"{prefix}:{name}")
            # In the order of their names, so that a record that goes and comes back finds its place.
            own.insert(sum(str(sibling.tag) < existing.tag for sibling in own), existing)
        existing.attrib.clear()
        existing.attrib.update(attributes)
        for child in list(existing):
            remove(existing, child)
        for item, given in items:
            ET.SubElement(existing, f"{prefix}:{item}", dict(given))
    elif existing is not None:
        remove(own, existing)
        for parent, child in ((metadata, own), (root, metadata)):
            if not len(child):
                remove(parent, child)


def items_of(element: ET.Element | None, name: str) -> list[ET.Element]:
    """The elements `name` below one of our records."""
    return [] if element is None else element.findall(f"{element.tag.rpartition(':')[0]}:{name}")
