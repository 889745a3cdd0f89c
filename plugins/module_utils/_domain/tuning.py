# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What extra specs of a flavor set in a definition: limits (libvirt's cputune, memtune, iotune, bandwidth) and huge pages.

Our metadata keeps for each value what was there before. With a flavor that does not set it any more, that comes back; a value that
somebody has changed by hand meanwhile is theirs and stays.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from .._rules import huge_pages as _huge_pages, memory_units as _memory_units
from .._rules.errors import KvmfleetError
from .._rules.interfaces import LIMITED_INTERFACES
from . import tree as _tree
from .definition import own_record

_HUGE_PAGES = "memoryBacking/hugepages"


def _limits(suffix: str, kinds: Iterable[str] = ("bytes", "iops")) -> tuple[str, ...]:
    return tuple(f"{direction}_{kind}_sec{suffix}" for kind in kinds for direction in ("total", "read", "write"))


_ORDER = {
    "cputune": ("shares", "period", "quota"),
    "memtune": ("hard_limit", "soft_limit", "min_guarantee", "swap_hard_limit"),
    "iotune": (*_limits(""), *_limits("_max"), "size_iops_sec", "group_name", *_limits("_max_length")),
    "bandwidth": ("inbound", "outbound"),
}
BEFORE = {
    "memtune": ("name", "memory", "currentMemory", "maxMemory", "blkiotune"),
    "memoryBacking": ("name", "memory", "currentMemory", "maxMemory", "blkiotune", "memtune"),
    "cputune": ("name", "memory", "currentMemory", "maxMemory", "blkiotune", "memtune", "memoryBacking", "vcpu", "vcpus", "iothreads", "iothreadids"),
}
"""What libvirt writes before an element of a definition."""
_KNOWN = {
    _HUGE_PAGES,
    *(f"{container}/{name}" for container, names in _ORDER.items() if container != "bandwidth" for name in names),
    *(f"bandwidth/{direction}/@{rate}" for direction in _ORDER["bandwidth"] for rate in ("average", "peak", "burst")),
}


class _Place(NamedTuple):
    """Where a value is: the target of a disk or the MAC address of an interface (None for the guest as a whole), and the way from there."""

    device: str | None
    name: str


def apply(root: ET.Element, tuning: Mapping[str, Any]) -> None:
    """Set what the flavor sets, and take back what an earlier flavor set.

    :param tuning: `cputune`, `memtune` (KiB), `iotune` (for each disk), `bandwidth` (for each interface, with `inbound` and `outbound`), each
        by libvirt's names, and `hugepages`: a size in KiB, `default` for the host's own, or None.
    :raises KvmfleetError: `unsupported_hugepages`, `unsupported_memtune`.
    """
    recorded = {place: was for place, (value, was) in _recorded(root).items() if _read(root, place) == value}
    wanted = dict(_wanted(root, tuning, recorded))
    for place, was in recorded.items():
        if place not in wanted:
            _write(root, place, was)
    before = {place: recorded[place] if place in recorded else _read(root, place) for place in wanted}
    for place, value in wanted.items():
        _write(root, place, value)
    changed = {place: (value, before[place]) for place, value in wanted.items() if (value, before[place]) != (None, None)}
    items = [("setting", _attributes(place, *values)) for place, values in sorted(changed.items(), key=lambda item: (item[0].device or "", item[0].name))]
    _tree.record(root, "tuning", {} if items else None, items)
    _require_sane(root)


def _wanted(root: ET.Element, tuning: Mapping[str, Any], ours: Mapping[_Place, Any]) -> Iterator[tuple[_Place, str | None]]:
    for container in ("cputune", "memtune"):
        for name, number in (tuning.get(container) or {}).items():
            yield _Place(None, f"{container}/{name}"), f"{number} KiB" if container == "memtune" else str(number)
    if tuning.get("hugepages") is not None:
        yield from _wanted_pages(root, str(tuning["hugepages"]), ours)
    for disk in root.findall("devices/disk"):
        target = disk.find("target")
        if disk.get("device", "disk") == "disk" and target is not None and target.get("dev"):
            for name, value in _iotune(tuning.get("iotune") or {}):
                yield _Place(target.get("dev"), f"iotune/{name}"), value
    for interface in root.findall("devices/interface"):
        mac = interface.find("mac")
        if interface.get("type") in LIMITED_INTERFACES and mac is not None and mac.get("address"):
            for direction, rates in (tuning.get("bandwidth") or {}).items():
                for rate in ("average", "peak", "burst"):
                    yield _Place(mac.get("address"), f"bandwidth/{direction}/@{rate}"), str(rates[rate]) if rate in rates else None


def _iotune(limits: Mapping[str, int]) -> Iterator[tuple[str, str | None]]:
    """Limits of one kind belong together (libvirt takes a total or one for each direction): those that are not set make way."""
    for kind in ("bytes", "iops"):
        names = [name for suffix in ("", "_max", "_max_length") for name in _limits(suffix, [kind])]
        if not limits.keys().isdisjoint(names):
            yield from ((name, str(limits[name]) if name in limits else None) for name in names)


def _wanted_pages(root: ET.Element, size: str, ours: Mapping[_Place, Any]) -> Iterator[tuple[_Place, str | None]]:
    """Huge pages of the definition's own stay: either they are what the flavor wants, or they are refused."""
    place = _Place(None, _HUGE_PAGES)
    have = _read(root, place)
    if have is None or place in ours:
        yield place, size
    elif have != size and not (size == "default" and have.isdigit()):
        raise KvmfleetError(
            "unsupported_hugepages",
            f"hw:mem_page_size asks for huge pages (KiB: {size}), but the definition has <hugepages> of its own (KiB: {have}): remove them, or leave the "
            "extra spec out.",
            need=size,
            have=have,
        )


def _require_sane(root: ET.Element) -> None:
    """libvirt refuses a limit above the one with swap."""
    hard, swap = root.find("memtune/hard_limit"), root.find("memtune/swap_hard_limit")
    if hard is not None and swap is not None and _memory_units.kib(hard) > _memory_units.kib(swap):
        have = _memory_units.kib(swap) // 1024
        raise KvmfleetError(
            "unsupported_memtune",
            f"quota:memory_limit is {_memory_units.kib(hard) // 1024} MiB, but <swap_hard_limit> allows {have} MiB: raise it in the definition first.",
            need=_memory_units.kib(hard) // 1024,
            have=have,
        )


def _recorded(root: ET.Element) -> dict[_Place, tuple[str | None, str | None]]:
    """What an earlier flavor set, and what was there before it."""
    items = _tree.items_of(own_record(root, "tuning"), "setting")
    known = {_Place(item.get("device"), item.get("name", "")): (item.get("value"), item.get("was")) for item in items}
    return {place: values for place, values in known.items() if place.name in _KNOWN}


def _attributes(place: _Place, value: str | None, was: str | None) -> dict[str, str]:
    given = {"device": place.device, "name": place.name, "value": value, "was": was}
    return {name: text for name, text in given.items() if text is not None}


def _scope(root: ET.Element, place: _Place) -> ET.Element | None:
    """The element that the way starts at; None if the device is gone."""
    if place.device is None:
        return root
    for device, child, attribute in (("disk", "target", "dev"), ("interface", "mac", "address")):
        for element in root.findall(f"devices/{device}"):
            found = element.find(child)
            if found is not None and found.get(attribute) == place.device:
                return element
    return None


def _read(root: ET.Element, place: _Place) -> str | None:
    scope = _scope(root, place)
    if scope is None:
        return None
    if place.name == _HUGE_PAGES:
        return _read_pages(root)
    way, _at, attribute = place.name.partition("/@")
    element = scope.find(way)
    if element is None:
        return None
    if attribute:
        return element.get(attribute)
    return " ".join(filter(None, ((element.text or "").strip(), element.get("unit"))))


def _read_pages(root: ET.Element) -> str | None:
    """None, `default`, the size in KiB, or `several` where it depends on the NUMA cell."""
    backing = root.find(_HUGE_PAGES)
    if backing is None:
        return None
    pages = backing.findall("page")
    if not pages:
        return "default"
    return "several" if len(pages) > 1 or pages[0].get("nodeset") else str(_huge_pages.page_kib(root))


def _write(root: ET.Element, place: _Place, value: str | None) -> None:
    scope = _scope(root, place)
    if scope is None:
        return
    way, _at, attribute = place.name.partition("/@")
    names = way.split("/")
    if value is None:
        _remove(scope, names, attribute)
        return
    element = _reach(scope, names)
    if attribute:
        element.set(attribute, value)
    elif place.name == _HUGE_PAGES:
        for page in element.findall("page"):
            _tree.remove(element, page)
        if value.isdigit():
            ET.SubElement(element, "page", {"size": value, "unit": "KiB"})
    else:
        number, _space, unit = value.partition(" ")
        element.text = number
        if unit:
            element.set("unit", unit)
        else:
            element.attrib.pop("unit", None)


def _reach(scope: ET.Element, names: list[str]) -> ET.Element:
    """The element at the end of the way; what is missing is made in libvirt's order, so that it always finds the same place."""
    element = scope
    for name in names:
        below = element.find(name)
        if below is None:
            below = ET.Element(name)
            order = _ORDER.get(str(element.tag), ())
            if name in order:
                _tree.insert_after(element, below, order[: order.index(name)])
            elif name in BEFORE and scope.tag == "domain":
                _tree.insert_after(element, below, BEFORE[name])
            else:
                element.append(below)
        element = below
    return element


def _remove(scope: ET.Element, names: list[str], attribute: str) -> None:
    """Remove the value, and what is empty then."""
    elements = [scope]
    for name in names:
        below = elements[-1].find(name)
        if below is None:
            return
        elements.append(below)
    if attribute:
        elements[-1].attrib.pop(attribute, None)
    else:
        _tree.remove(elements[-2], elements.pop())
    while len(elements) > 1 and not len(elements[-1]) and not elements[-1].attrib:
        _tree.remove(elements[-2], elements.pop())
