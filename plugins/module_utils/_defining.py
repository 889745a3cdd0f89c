# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Define a domain for which a definition was edited that libvirt, perhaps another one, had written."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections import Counter
from typing import Any

from . import _domain_xml, _libvirt
from ._errors import KvmfleetError


def define(conn: Any, xml: str) -> Any:
    """Define the domain, and make sure that this libvirt has taken all of it.

    Its schema tells what it does not know. But it does not allow all that libvirt takes and tools rely on, such as the `<partition>` that
    KubeVirt writes; then what libvirt has made of the definition is compared with what it was given.

    :raises KvmfleetError: `definition_not_taken`; the domain is defined then, without what is missing.
    """
    domain = _libvirt.define_checked(conn, xml)
    if domain is None:
        domain = _libvirt.define(conn, xml)
        missing = lost(_domain_xml.parse(xml), _domain_xml.parse(_libvirt.inactive_xml(domain)))
        if missing:
            raise KvmfleetError(
                "definition_not_taken",
                f"libvirt on this host does not know all of the definition of {domain.name()} and drops {', '.join(missing)}: upgrade it, or edit the "
                "definition on the source first.",
                missing=missing,
            )
    return domain


def lost(given: ET.Element, taken: ET.Element) -> list[str]:
    """What is missing in a definition that was made of another one: places, with their values, in document order."""
    there = Counter(_places(taken, ""))
    missing = []
    for place in _places(given, ""):
        if there[place]:
            there[place] -= 1
        else:
            missing.append(place)
    return missing


def _places(element: ET.Element, path: str) -> list[str]:
    found = []
    for child in element:
        if isinstance(child.tag, str):
            place = f"{path}/{child.tag}".lstrip("/")
            text = (child.text or "").strip()
            found.append(f"{place} {text}" if text else place)
            found.extend(f"{place}/@{name} {value}" for name, value in child.attrib.items())
            found.extend(_places(child, place))
    return found
