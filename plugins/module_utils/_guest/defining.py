# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Define a domain for which a definition was edited that libvirt, perhaps another one, had written."""

from __future__ import annotations

import time
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Callable
from typing import Any

from .._domain import definition as _definition
from .._libvirt import binding as _binding, definitions as _definitions, domains as _domains
from .._rules.errors import KvmfleetError

_LATE = 2.0  # seconds
_POLL = 0.05
_MEANT = frozenset(("os/loader/@format raw", "os/nvram/@format raw", "os/nvram/@templateFormat raw"))
"""What a libvirt that does not know the place takes for granted."""


def define(conn: Any, xml: str) -> Any:
    """Define the domain, and make sure that this libvirt has taken all of it.

    Its schema tells what it does not know. But it does not allow all that libvirt takes and tools rely on, such as the `<partition>` that
    KubeVirt writes; then what libvirt has made of the definition is compared with what it was given.

    :raises KvmfleetError: `definition_not_taken`; the domain is defined then, without what is missing.
    """
    domain = _definitions.define_checked(conn, xml)
    if domain is None:
        domain = _definitions.define(conn, xml)
        missing = lost(_definition.parse(xml), _definition.parse(_definitions.inactive_xml(domain)))
        if missing:
            raise KvmfleetError(
                "definition_not_taken",
                f"libvirt on this host does not know all of the definition and drops {', '.join(missing)}: upgrade it, or edit the definition on the "
                "source first.",
                missing=missing,
            )
    return domain


def require_defined(conn: Any, record: dict[str, Any]) -> Any:
    """The domain of a record.

    :raises KvmfleetError: `instance_vanished`, as where somebody has undefined it meanwhile.
    """
    domain = _domains.find_domain(conn, record["instance_uuid"])
    if domain is None:
        raise KvmfleetError(
            "instance_vanished",
            f"Instance {record['instance_name']} ({record['instance_uuid']}) is not defined on this host any more. Define it again (virsh define), and run "
            "kvmfleet.compute.recover if an operation on it is open.",
            instance=record["instance_name"],
        )
    return domain


def require_left(domain: Any | None, record: dict[str, Any]) -> None:
    """An operation that was undone has left its guest defined. Nobody may be told otherwise, also where somebody else has undefined it.

    :raises KvmfleetError: `instance_vanished`.
    """
    if domain is None:
        raise KvmfleetError(
            "instance_vanished",
            f"The operation on {record['instance_name']} has ended here, but the guest is not as before: somebody has undefined it meanwhile. Its disks are "
            "where they were. If the guest is to be used, define it again (virsh define).",
            instance=record["instance_name"],
        )


def try_out(conn: Any, xml: str, uuid: str, also: Callable[[Any], None] = lambda trial: None) -> None:
    """Find out whether `define` will take a definition, while its guest runs elsewhere; what was defined for that is gone afterwards.

    :param also: what else is to be tried on what was defined.
    :param uuid: UUID of the operation, which the trial bears in place of that of the guest, so that `end_trial` finds what a killed one left.
    :raises KvmfleetError: `definition_not_taken`, also for what libvirt refuses.
    """
    root = _definition.parse(xml)
    name = root.findtext("name")
    _set_text(root, "name", _domains.trial_name(uuid))
    _set_text(root, "uuid", uuid)
    # libvirt wants this one to be the same.
    for entry in root.findall("sysinfo/system/entry[@name='uuid']"):
        entry.text = uuid
    try:
        also(define(conn, ET.tostring(root, encoding="unicode")))
    except _binding.LibvirtError as exc:
        raise KvmfleetError("definition_not_taken", f"libvirt on this host does not take the definition of {name}: {exc}.", missing=[]) from exc
    finally:
        end_trial(conn, uuid)


def end_trial(conn: Any, uuid: str) -> None:
    """Undefine what `try_out` has defined for an operation, if anything is left of it."""
    domain = _domains.find_domain(conn, uuid)
    if domain is not None:
        _definitions.undefine_keeping_everything(domain)


def find_late(conn: Any, uuid: str) -> Any | None:
    """The domain, or None once a moment has passed without it.

    Whoever asked libvirtd to define it may have been ended before it answered. A libvirtd that goes on works at once on what it was asked meanwhile, but at
    several requests together.
    """
    deadline = time.monotonic() + _LATE
    while (domain := _domains.find_domain(conn, uuid)) is None and time.monotonic() < deadline:
        time.sleep(_POLL)
    return domain


def lost(given: ET.Element, taken: ET.Element) -> list[str]:
    """What is missing in a definition that was made of another one: places, with their values, in document order."""
    there = Counter(_places(taken, ""))
    missing = []
    for place in _places(given, ""):
        if there[place]:
            there[place] -= 1
        elif place not in _MEANT:
            missing.append(place)
    return missing


def _set_text(root: ET.Element, tag: str, text: str) -> None:
    element = root.find(tag)
    if element is None:
        element = ET.SubElement(root, tag)
    element.text = text


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
