# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a running guest has now, and its definition does not say, or the other way round: a restart would take it away, or bring it back.

One comparison of both. Libvirt writes much of what runs otherwise than it is defined (aliases, addresses, ports, paths, the CPU in full), so not the texts
are compared but devices by what they are, and of each the values that can be changed while a guest runs: the tables below.
"""

from __future__ import annotations

import copy
import os
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from .._domain import definition as _definition, media as _media
from .._rules import exclusive as _exclusive, memory_units as _memory_units
from .._rules.differences import DROP, Difference, refusal
from .._rules.errors import KvmfleetError
from .._storage import pools as _pools

_Key = tuple[str, ...]


class _Value(NamedTuple):
    """A value that can be changed while the guest runs.

    :param path: of the element below the device or the domain, which `keep` takes over as a whole; :param what: before it in messages.
    :param read: the value in a form that can be compared, or None for none; given what is around the element too.
    :param counts: whether it is compared, given what is around it in the running guest and in the definition.
    :param unkeepable: given the same, why `keep` cannot take it over, if so.
    """

    path: str
    what: str
    read: Callable[[ET.Element, ET.Element | None], str | None]
    counts: Callable[[ET.Element, ET.Element], bool] = lambda _live, _defined: True
    unkeepable: Callable[[ET.Element, ET.Element], str] = lambda _live, _defined: ""


def moved_disks(conn: Any, live: ET.Element, definition: ET.Element) -> Iterator[tuple[str, str | None, str | None]]:
    """Target, path by the definition and path that the guest writes to, of each disk of which these differ: a restart would lose what was written."""
    defined, used = _disk_paths(conn, definition), _disk_paths(conn, live)
    yield from ((target, defined[target], used[target]) for target in sorted(defined.keys() & used.keys()) if defined[target] != used[target])


def _disk_paths(conn: Any, root: ET.Element) -> dict[str, str | None]:
    """Where the disks lie; a volume whose pool does not tell bears its name, so that it differs from a file."""
    paths = {}
    for disk in _definition.disks(root):
        if disk.device == "disk":
            try:
                paths[disk.target] = _pools.path_of(conn, disk)
            except KvmfleetError:
                paths[disk.target] = f"{disk.pool}/{disk.volume}"
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
    for value in _OF_DOMAIN:
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
    return 0 if whole is None else _rounded_up(_memory_units.kib(whole) - devices, 1024)


def _rounded_up(amount: int, unit: int) -> int:
    """How many units hold the amount."""
    return -(-amount // unit)


def _of_value(owner: str, value: _Value, live: ET.Element, definition: ET.Element) -> Iterator[tuple[Difference, Callable[[], None]]]:
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
    clean = _as_defined(live)
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
            for value in _OF_DEVICES.get(str(element.tag), ()):
                yield from _of_value(_described(key), value, now[key], element)
        else:
            why = "its file would stay behind" if element.tag == "disk" and element.get("device", "disk") == "disk" else ""
            yield Difference(_described(key), "not there", _summary(element), why), lambda element=element: devices.remove(element)
    for key, element in now.items():
        if key not in then:
            yield Difference(_described(key), _summary(element), "not there"), lambda element=element: _add(devices, element)


def _numbered(root: ET.Element) -> dict[_Key, ET.Element]:
    """The devices by what they are, and those that are the same by their order."""
    numbered: dict[_Key, ET.Element] = {}
    for element in root.findall("devices/*"):
        if isinstance(element.tag, str) and element.tag != "emulator" and not _is_implied(element):
            key = (element.tag, *_IDENTITIES.get(element.tag, _by_form)(element))
            number = 1
            while (*key, str(number)) in numbered:
                number += 1
            numbered[(*key, str(number))] = element
    return numbered


def _is_implied(element: ET.Element) -> bool:
    """What libvirt adds to a definition by itself, a newer one also while the guest runs: slots to plug devices in, what each machine of the kind has."""
    return any(element.tag == tag and element.get(name) == value for tag, name, value in _IMPLIED)


def _by_form(element: ET.Element) -> _Key:
    """Two devices of the same form are alike."""
    model = element.find("model")
    return tuple(element.get(name) or "" for name in ("type", "bus", "model")) + ((model.get("type") or "") if model is not None else "",)


def _by(*places: str) -> Callable[[ET.Element], _Key]:
    """By attributes of the device (`@name`) or of an element below it (`element@name`)."""

    def identity(element: ET.Element) -> _Key:
        values = []
        for place in places:
            below, _at, name = place.rpartition("@")
            found_element = element.find(below) if below else element
            values.append("" if found_element is None else found_element.get(name) or "")
        return tuple(values)

    return identity


def _by_source(element: ET.Element) -> _Key:
    """A device of the host, by the name that it is given; a running guest tells the address of one that is named otherwise too."""
    source = element.find("source")
    if source is None:
        return _by_form(element)
    vendor = source.find("vendor")
    shown = [part for part in source if part.tag in ("vendor", "product")] if vendor is not None else list(source)
    return (element.get("type") or "", element.get("mode") or "", *(_canonical(part) for part in shown), *sorted(source.attrib.values()))


def _by_memory(element: ET.Element) -> _Key:
    target = element.find("target")
    size = None if target is None else target.find("size")
    node = None if target is None else target.findtext("node")
    # Libvirt rounds that of a running guest up to 2 MiB.
    return (element.get("model") or "", str(_rounded_up(_memory_units.kib(size), 2048) * 2048) if size is not None else "", node or "")


def _by_character_target(element: ET.Element) -> _Key:
    target = element.find("target")
    attributes = {} if target is None else target.attrib
    return (element.get("type") or "", *(attributes.get(name) or "" for name in ("type", "name", "port", "address")))


_IDENTITIES: Mapping[str, Callable[[ET.Element], _Key]] = {
    "disk": _by("target@dev"),
    "interface": _by("mac@address"),
    "controller": _by("@type", "@index"),
    "filesystem": _by("target@dir"),
    "shmem": _by("@name"),
    "graphics": _by("@type"),
    "memballoon": _by("@model"),
    "audio": _by("@id"),
    "tpm": _by("@model", "backend@type"),
    "rng": _by("@model", "backend@model"),
    "vsock": _by("@model"),
    "hostdev": _by_source,
    "memory": _by_memory,
    **dict.fromkeys(("serial", "parallel", "console", "channel"), _by_character_target),
}
"""What makes a device the same one; others are told apart by their form alone."""


_IMPLIED = (("controller", "type", "pci"), ("watchdog", "model", "itco"), ("audio", "type", "none"), ("audio", "type", "spice"), ("input", "bus", "ps2"))


def _described(key: _Key) -> str:
    parts = " ".join(part for part in key[1:-1] if part)
    return f"{key[0]} {parts}".strip() + (f" (number {key[-1]})" if key[-1] != "1" else "")


def _summary(element: ET.Element) -> str:
    source = element.find("source")
    return "there" if source is None or not (name := _source(element, source)) else name


def _source(element: ET.Element, source: ET.Element | None) -> str | None:
    """What a device is connected to: the first that says it, since a running guest tells of a network its bridge too."""
    if source is None:
        return None
    if source.get("pool"):
        return f"{source.get('pool')}/{source.get('volume')}"
    if source.get("protocol"):
        return f"{source.get('protocol')}:{source.get('name')}"
    return next((source.attrib[name] for name in ("file", "dir", "network", "bridge", "dev", "path") if source.get(name)), None)


# Values


def _canonical(element: ET.Element | None) -> str | None:
    """The element as text that is the same for what means the same; what libvirt adds to each device of a running guest is left out."""
    if element is None:
        return None
    attributes = "".join(f" {name}={value}" for name, value in sorted(element.attrib.items()) if not name.startswith("xmlns"))
    below = sorted(filter(None, (_canonical(child) for child in element if isinstance(child.tag, str) and child.tag not in _RUNTIME)))
    text = (element.text or "").strip()
    return f"{element.tag}{attributes}{' ' + text if text else ''}{' (' + ', '.join(below) + ')' if below else ''}"


def _whole(_around: ET.Element, element: ET.Element | None) -> str | None:
    return _canonical(element)


def _text(_around: ET.Element, element: ET.Element | None) -> str | None:
    return None if element is None else (element.text or "").strip() or None


def _attribute(name: str, default: str | None = None) -> Callable[[ET.Element, ET.Element | None], str | None]:
    return lambda _around, element: default if element is None else element.get(name, default)


def _tuning(_around: ET.Element, element: ET.Element | None) -> str | None:
    """Without what is set aside of the caches of a host, which a running guest names otherwise."""
    if element is None:
        return None
    below = sorted(text for child in element if child.tag not in ("cachetune", "memorytune", "energytune") and (text := _canonical(child)))
    return ", ".join(below) or None


def _memory_nodes(_around: ET.Element, element: ET.Element | None) -> str | None:
    return None if element is None or element.find("memory[@placement='auto']") is not None else _canonical(element)


def _metadata(_around: ET.Element, element: ET.Element | None) -> str | None:
    """That of others: ours is of the definition alone."""
    own = None if element is None else _definition.metadata_element(_around)
    below = sorted(text for child in (() if element is None else element) if child is not own and isinstance(child.tag, str) and (text := _canonical(child)))
    return ", ".join(below) or None


def _vcpus(_around: ET.Element, element: ET.Element | None) -> str | None:
    if element is None:
        return None
    most = (element.text or "").strip()
    return f"{element.get('current') or most} of {most}"


def _tells_its_network(live: ET.Element, definition: ET.Element) -> bool:
    """A network that hands out devices of the host is not named by a card that runs: it has the address of the device instead."""
    return (live.get("type"), definition.get("type")) != ("hostdev", "network") or live.find("source[@network]") is not None


def _is_its_own(_live: ET.Element, definition: ET.Element) -> bool:
    """Whether a limit is that of the card: one in a network has that of its port group, unless its definition says another."""
    return definition.get("type") != "network" or definition.find("bandwidth") is not None


def _of_another_kind(live: ET.Element, definition: ET.Element) -> str:
    """Why the definition cannot be given where a card is plugged in now: what else belongs to a connection differs between the kinds."""
    now, then = _as_defined(live).get("type"), definition.get("type")
    if now == then:
        return ""
    if {now, then} != {"network", "bridge"}:
        return f"its definition is of type {then}, and it is of type {now} now"
    port = next((name for name in ("virtualport", "vlan") for card in (live, definition) if card.find(name) is not None), None)
    return f"its definition is of type {then}, it is of type {now} now, and who sets its {port} is not known" if port else ""


def _medium(around: ET.Element, source: ET.Element | None) -> str | None:
    """Of a drive, if it is there; where a disk itself differs, a restart would lose what was written (`definition_differs`)."""
    return None if around.get("device", "disk") == "disk" or _is_gone(around) else _source(around, source)


def _is_gone(disk: ET.Element) -> bool:
    """Whether the file of a medium does not exist any more."""
    source = disk.find("source")
    path = None if source is None else source.get("file")
    return disk.get("device") in _media.REMOVABLE and path is not None and not os.path.exists(path)


_OF_DOMAIN: tuple[_Value, ...] = (
    _Value("title", "title", _text),
    _Value("description", "description", _text),
    _Value("metadata", "metadata", _metadata),
    _Value("os/type", "machine", _attribute("machine"), unkeepable=lambda _live, _defined: "another machine would have other devices"),
    *(_Value(f"os/{name}", name, _text) for name in ("kernel", "initrd", "cmdline")),
    _Value("vcpu", "vCPUs", _vcpus),
    _Value("iothreads", "I/O threads", _text),
    _Value("cputune", "CPU tuning", _tuning),
    _Value("memtune", "memory tuning", _whole),
    _Value("blkiotune", "disk tuning", _whole),
    _Value("numatune", "NUMA tuning", _memory_nodes),
    _Value("on_reboot", "action for a reboot", _text),
    _Value("on_crash", "action for a crash", _text),
)
"""What of the domain itself is compared. `on_poweroff` is not: it is for a shutdown, and an operation sets it by itself (`_guest.late_shutdown`)."""

_OF_DEVICES: Mapping[str, tuple[_Value, ...]] = {
    "disk": (
        _Value("source", "medium", _medium, lambda live, _defined: not _is_gone(live)),  # nobody can keep one that is gone: the definition alone counts
        _Value("iotune", "limits", _whole),
    ),
    "interface": (
        _Value("source", "is plugged into", _source, _tells_its_network, _of_another_kind),
        _Value("link", "link", _attribute("state", "up")),
        _Value("bandwidth", "bandwidth", _whole, _is_its_own),
        _Value("filterref", "filter", _whole),
        _Value("model", "model", _attribute("type")),
    ),
    "rng": (_Value("rate", "rate", _whole),),
    "filesystem": (_Value("source", "directory", _source),),
}
"""The same of devices that both have. How often a balloon tells its statistics is not compared: who watches a guest sets that for now, and a restart costs
nothing of it."""


# What libvirt writes of a running guest only

_ADDED = ("alias", "backingStore", "mirror", "privateData", "seclabel")
_RUNTIME = (*_ADDED, "address", "virtualport")
_RUNTIME_ATTRIBUTES = {"source": ("index", "portid"), "target": ("state",), "console": ("tty",), "serial": ("tty",)}


def _as_defined(element: ET.Element) -> ET.Element:
    """An element of a running guest as a definition has it."""
    clean = copy.deepcopy(element)
    for part in clean.iter():
        for child in [child for child in part if child.tag in _ADDED]:
            if not (child.tag == "alias" and (child.get("name") or "").startswith("ua-")):
                part.remove(child)
        for name in _RUNTIME_ATTRIBUTES.get(str(part.tag), ()):
            part.attrib.pop(name, None)
    source = clean.find("source")
    if clean.tag == "interface":
        target = clean.find("target")
        if target is not None and _exclusive.is_of_libvirt(_exclusive.DEVICE, target.get("dev") or ""):
            clean.remove(target)
        if source is not None and source.get("network"):
            clean.set("type", "network")
            source.attrib.pop("bridge", None)
            source.attrib.pop("dev", None)
    if clean.get("type") == "pty" and source is not None:
        clean.remove(source)
    return clean


def _add(devices: ET.Element, element: ET.Element) -> None:
    """After those of its kind, at the address that it has, if that is free in the definition."""
    clean = _as_defined(element)
    address = clean.find("address")
    taken = {_canonical(known) for known in devices.findall("*/address")}
    if address is not None and (_canonical(address) in taken or address.get("type") == "dimm"):
        clean.remove(address)
    of_kind = [index for index, known in enumerate(devices) if known.tag == clean.tag]
    devices.insert(of_kind[-1] + 1 if of_kind else len(devices), clean)
