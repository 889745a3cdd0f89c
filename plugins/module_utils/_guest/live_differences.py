# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a running guest has now, and its definition does not say, or the other way round: a restart would take it away, or bring it back.

One comparison of both. Libvirt writes much of what runs otherwise than it is defined (aliases, addresses, ports, paths, the CPU in full), so not the texts
are compared but devices by what they are, and of each the values that can be changed while a guest runs: the tables below.
"""

from __future__ import annotations

import copy
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from .._domain import definition as _definition
from .._rules import memory_units as _memory_units
from .._rules.differences import DROP, Difference, refusal
from .._rules.errors import KvmfleetError
from .._storage.kinds import registry as _kinds
from .live_values import IDENTITIES, OF_DEVICES, OF_DOMAIN, Key, Value, as_defined, by_form, canonical, is_implied, rounded_up, summary


def moved_disks(conn: Any, live: ET.Element, definition: ET.Element) -> Iterator[tuple[str, str | None, str | None]]:
    """Target, path by the definition and path that the guest writes to, of each disk of which these differ: a restart would lose what was written."""
    defined, used = _disk_paths(conn, definition), _disk_paths(conn, live)
    yield from ((target, defined[target], used[target]) for target in sorted(defined.keys() & used.keys()) if defined[target] != used[target])


def _disk_paths(conn: Any, root: ET.Element) -> dict[str, str | None]:
    """Where the disks lie; a volume whose pool does not tell bears its name, so that it differs from a file."""
    paths = {}
    for disk in _definition.disks(root):
        if disk.device == "disk":
            kind = _kinds.named(disk)
            try:
                paths[disk.target] = kind.path(conn, disk)
            except KvmfleetError:
                paths[disk.target] = "/".join(map(str, kind.named(disk) or ()))
    return paths


def found(live: ET.Element, definition: ET.Element) -> list[Difference]:
    """All differences, in the order of the definition; none for a guest that is off, of which both are the same."""
    return [difference for difference, _keep in _compared(live, definition)]


def kept(live: ET.Element, definition: ET.Element) -> ET.Element:
    """The definition with all that the guest has now.

    :raises KvmfleetError: `live_differences` for what cannot be kept.
    """
    merged = copy.deepcopy(definition)
    unkeepable = []
    for difference, keep in _compared(live, merged):
        if difference.unkeepable:
            unkeepable.append(f"{difference.text} ({difference.unkeepable})")
        else:
            keep()
    if len(live.findall("devices/memory")) != len(definition.findall("devices/memory")):
        _take_over("memory", live, merged)
    if unkeepable:
        raise KvmfleetError(
            "live_differences",
            f"live_differences=keep: {'; '.join(unkeepable)}. Change the guest or its definition, or take live_differences=drop for all of it.",
            differences=unkeepable,
        )
    return merged


def require_named(name: str, differences: Iterable[Difference], answer: str | None, named: Iterable[str]) -> None:
    """Whether the guest may be stopped, and what it has besides its definition be lost.

    :param answer: what the caller said, `keep` (then nothing differs any more), `drop` or None; :param named: what the plan has named.
    :raises KvmfleetError: `live_differences`.
    """
    allowed = set(named) if answer == DROP else set()
    new = [difference for difference in differences if difference.text not in allowed]
    if new:
        raise KvmfleetError("live_differences", refusal(name, [difference.text for difference in new]), differences=[item.text for item in new])


def _compared(live: ET.Element, definition: ET.Element) -> Iterator[tuple[Difference, Callable[[], None]]]:
    """Each difference, with what changes the definition accordingly."""
    for value in OF_DOMAIN:
        yield from _of_value("", value, live, definition)
    yield from _of_memory(live, definition)
    yield from _of_devices(live, definition)


def _of_memory(live: ET.Element, definition: ET.Element) -> Iterator[tuple[Difference, Callable[[], None]]]:
    """Memory as a whole, which libvirt rounds up to whole MiB when it starts a guest, of each NUMA cell too.

    What the guest may use of it (`currentMemory`) is not compared. It is all of it when the guest has started, and comes down to what is defined while the
    balloon fills, so that memory that somebody has let it use for now (`virsh setmem --live`) looks like that of a guest that was started a moment ago.
    Less than is defined is what a host takes back by itself.
    """
    now, then = _memory_mib(live), _memory_mib(definition)
    if not 0 <= now - then <= max(1, len(definition.findall("cpu/numa/cell"))):
        yield Difference("memory", f"{now} MiB", f"{then} MiB"), lambda: _take_over("memory", live, definition)


def _memory_mib(root: ET.Element) -> int:
    """Without the devices, which are compared by themselves."""
    whole = root.find("memory")
    devices = sum(_memory_units.kib(size) for size in root.findall("devices/memory/target/size"))
    return 0 if whole is None else rounded_up(_memory_units.kib(whole) - devices, 1024)


def _of_value(owner: str, value: Value, live: ET.Element, definition: ET.Element) -> Iterator[tuple[Difference, Callable[[], None]]]:
    now, then = (value.read(around, around.find(value.path)) for around in (live, definition))
    if now != then and value.counts(live, definition):
        what = f"{owner} {value.what}".strip()
        unkeepable = value.unkeepable(live, definition)
        yield Difference(what, now or "none", then or "none", unkeepable), lambda: _take_over(value.path, live, definition)


def _take_over(path: str, live: ET.Element, definition: ET.Element) -> None:
    parent_path, _slash, _tag = path.rpartition("/")
    parent = definition.find(parent_path) if parent_path else definition
    if parent is None:
        return
    # Cleaned with what is around it: libvirt tells of a card in a network the bridge that this came to, as type and as source.
    clean = as_defined(live)
    old, taken = definition.find(path), clean.find(path)
    if (definition.tag, path) == ("interface", "source"):
        definition.set("type", clean.get("type", ""))
    if path == "metadata":
        taken = _with_our_metadata(taken, live, definition)
    place = list(parent).index(old) if old is not None else len(parent)
    if old is not None:
        parent.remove(old)
    if taken is not None:
        parent.insert(place, taken)


def _with_our_metadata(taken: ET.Element | None, live: ET.Element, definition: ET.Element) -> ET.Element:
    """Metadata of others as the guest has them, our own as the definition does."""
    whole, own = ET.Element("metadata"), _definition.metadata_element(definition)
    of_guest = _definition.metadata_element(live)
    tag = None if of_guest is None else of_guest.tag
    whole.extend(child for child in (() if taken is None else taken) if child.tag != tag)
    whole.extend(() if own is None else [copy.deepcopy(own)])
    return whole


# Devices


def _of_devices(live: ET.Element, definition: ET.Element) -> Iterator[tuple[Difference, Callable[[], None]]]:
    devices = definition.find("devices")
    if devices is None:
        return
    now, then = _numbered(live), _numbered(definition)
    for key, element in then.items():
        if key in now:
            for value in OF_DEVICES.get(str(element.tag), ()):
                yield from _of_value(_described(key), value, now[key], element)
        else:
            why = "its file would stay behind" if element.tag == "disk" and element.get("device", "disk") == "disk" else ""
            yield Difference(_described(key), "not there", summary(element), why), lambda element=element: devices.remove(element)
    for key, element in now.items():
        if key not in then:
            yield Difference(_described(key), summary(element), "not there"), lambda element=element: _add(devices, element)


def _numbered(root: ET.Element) -> dict[Key, ET.Element]:
    """The devices by what they are, and those that are the same by their order."""
    numbered: dict[Key, ET.Element] = {}
    for element in root.findall("devices/*"):
        if isinstance(element.tag, str) and element.tag != "emulator" and not is_implied(element):
            key = (element.tag, *IDENTITIES.get(element.tag, by_form)(element))
            number = 1
            while (*key, str(number)) in numbered:
                number += 1
            numbered[(*key, str(number))] = element
    return numbered


def _described(key: Key) -> str:
    parts = " ".join(part for part in key[1:-1] if part)
    return f"{key[0]} {parts}".strip() + (f" (number {key[-1]})" if key[-1] != "1" else "")


# Values


# What libvirt writes of a running guest only


def _add(devices: ET.Element, element: ET.Element) -> None:
    """After those of its kind, at the address that it has, if that is free in the definition."""
    clean = as_defined(element)
    address = clean.find("address")
    taken = {canonical(known) for known in devices.findall("*/address")}
    if address is not None and (canonical(address) in taken or address.get("type") == "dimm"):
        clean.remove(address)
    of_kind = [index for index, known in enumerate(devices) if known.tag == clean.tag]
    devices.insert(of_kind[-1] + 1 if of_kind else len(devices), clean)
