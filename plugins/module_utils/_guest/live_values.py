# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What of a guest can be changed while it runs: which devices are the same, and the values of each in a form that can be compared."""

from __future__ import annotations

import copy
import os
import xml.etree.ElementTree as ET
from collections.abc import Callable, Mapping
from typing import NamedTuple

from .._domain import definition as _definition, media as _media
from .._rules import exclusive as _exclusive, memory_units as _memory_units

Key = tuple[str, ...]


class Value(NamedTuple):
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


def rounded_up(amount: int, unit: int) -> int:
    """How many units hold the amount."""
    return -(-amount // unit)


def is_implied(element: ET.Element) -> bool:
    """What libvirt adds to a definition by itself, a newer one also while the guest runs: slots to plug devices in, what each machine of the kind has."""
    return any(element.tag == tag and element.get(name) == value for tag, name, value in _IMPLIED)


def by_form(element: ET.Element) -> Key:
    """Two devices of the same form are alike."""
    model = element.find("model")
    return tuple(element.get(name) or "" for name in ("type", "bus", "model")) + ((model.get("type") or "") if model is not None else "",)


def _by(*places: str) -> Callable[[ET.Element], Key]:
    """By attributes of the device (`@name`) or of an element below it (`element@name`)."""

    def identity(element: ET.Element) -> Key:
        values = []
        for place in places:
            below, _at, name = place.rpartition("@")
            found_element = element.find(below) if below else element
            values.append("" if found_element is None else found_element.get(name) or "")
        return tuple(values)

    return identity


def _by_source(element: ET.Element) -> Key:
    """A device of the host, by the name that it is given; a running guest tells the address of one that is named otherwise too."""
    source = element.find("source")
    if source is None:
        return by_form(element)
    vendor = source.find("vendor")
    shown = [part for part in source if part.tag in ("vendor", "product")] if vendor is not None else list(source)
    return (element.get("type") or "", element.get("mode") or "", *(canonical(part) for part in shown), *sorted(source.attrib.values()))


def _by_memory(element: ET.Element) -> Key:
    target = element.find("target")
    size = None if target is None else target.find("size")
    node = None if target is None else target.findtext("node")
    # Libvirt rounds that of a running guest up to 2 MiB.
    return (element.get("model") or "", str(rounded_up(_memory_units.kib(size), 2048) * 2048) if size is not None else "", node or "")


def _by_character_target(element: ET.Element) -> Key:
    target = element.find("target")
    attributes = {} if target is None else target.attrib
    return (element.get("type") or "", *(attributes.get(name) or "" for name in ("type", "name", "port", "address")))


IDENTITIES: Mapping[str, Callable[[ET.Element], Key]] = {
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
_SOURCES = (("/", ("pool", "volume")), (":", ("protocol", "name")), *(("", (name,)) for name in ("file", "dir", "network", "bridge", "dev", "path")))
"""What the source of a device is called: the attributes that say it, and what stands between them."""
_IMPLIED = (("controller", "type", "pci"), ("watchdog", "model", "itco"), ("audio", "type", "none"), ("audio", "type", "spice"), ("input", "bus", "ps2"))


def summary(element: ET.Element) -> str:
    source = element.find("source")
    return "there" if source is None or not (name := _source(element, source)) else name


def _source(element: ET.Element, source: ET.Element | None) -> str | None:
    """What a device is connected to: the first that says it, since a running guest tells of a network its bridge too."""
    if source is None:
        return None
    return next((between.join(source.get(name, "None") for name in names) for between, names in _SOURCES if source.get(names[0])), None)


def canonical(element: ET.Element | None) -> str | None:
    """The element as text that is the same for what means the same; what libvirt adds to each device of a running guest is left out."""
    if element is None:
        return None
    attributes = "".join(f" {name}={value}" for name, value in sorted(element.attrib.items()) if not name.startswith("xmlns"))
    below = sorted(filter(None, (canonical(child) for child in element if isinstance(child.tag, str) and child.tag not in _RUNTIME)))
    text = (element.text or "").strip()
    return f"{element.tag}{attributes}{' ' + text if text else ''}{' (' + ', '.join(below) + ')' if below else ''}"


def _whole(_around: ET.Element, element: ET.Element | None) -> str | None:
    return canonical(element)


def _text(_around: ET.Element, element: ET.Element | None) -> str | None:
    return None if element is None else (element.text or "").strip() or None


def _attribute(name: str, default: str | None = None) -> Callable[[ET.Element, ET.Element | None], str | None]:
    return lambda _around, element: default if element is None else element.get(name, default)


def _tuning(_around: ET.Element, element: ET.Element | None) -> str | None:
    """Without what is set aside of the caches of a host, which a running guest names otherwise."""
    if element is None:
        return None
    below = sorted(text for child in element if child.tag not in ("cachetune", "memorytune", "energytune") and (text := canonical(child)))
    return ", ".join(below) or None


def _memory_nodes(_around: ET.Element, element: ET.Element | None) -> str | None:
    return None if element is None or element.find("memory[@placement='auto']") is not None else canonical(element)


def _metadata(_around: ET.Element, element: ET.Element | None) -> str | None:
    """That of others: ours is of the definition alone."""
    own = None if element is None else _definition.metadata_element(_around)
    below = sorted(text for child in (() if element is None else element) if child is not own and isinstance(child.tag, str) and (text := canonical(child)))
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
    now, then = as_defined(live).get("type"), definition.get("type")
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


OF_DOMAIN: tuple[Value, ...] = (
    Value("title", "title", _text),
    Value("description", "description", _text),
    Value("metadata", "metadata", _metadata),
    Value("os/type", "machine", _attribute("machine"), unkeepable=lambda _live, _defined: "another machine would have other devices"),
    *(Value(f"os/{name}", name, _text) for name in ("kernel", "initrd", "cmdline")),
    Value("vcpu", "vCPUs", _vcpus),
    Value("iothreads", "I/O threads", _text),
    Value("cputune", "CPU tuning", _tuning),
    Value("memtune", "memory tuning", _whole),
    Value("blkiotune", "disk tuning", _whole),
    Value("numatune", "NUMA tuning", _memory_nodes),
    Value("on_reboot", "action for a reboot", _text),
    Value("on_crash", "action for a crash", _text),
)
"""What of the domain itself is compared. `on_poweroff` is not: it is for a shutdown, and an operation sets it by itself (`_guest.late_shutdown`)."""
OF_DEVICES: Mapping[str, tuple[Value, ...]] = {
    "disk": (
        Value("source", "medium", _medium, lambda live, _defined: not _is_gone(live)),  # nobody can keep one that is gone: the definition alone counts
        Value("iotune", "limits", _whole),
    ),
    "interface": (
        Value("source", "is plugged into", _source, _tells_its_network, _of_another_kind),
        Value("link", "link", _attribute("state", "up")),
        Value("bandwidth", "bandwidth", _whole, _is_its_own),
        Value("filterref", "filter", _whole),
        Value("model", "model", _attribute("type")),
    ),
    "rng": (Value("rate", "rate", _whole),),
    "filesystem": (Value("source", "directory", _source),),
}
"""The same of devices that both have. How often a balloon tells its statistics is not compared: who watches a guest sets that for now, and a restart costs
nothing of it."""
_ADDED = ("alias", "backingStore", "mirror", "privateData", "seclabel")
_RUNTIME = (*_ADDED, "address", "virtualport")
_RUNTIME_ATTRIBUTES = {"source": ("index", "portid"), "target": ("state",), "console": ("tty",), "serial": ("tty",)}


def as_defined(element: ET.Element) -> ET.Element:
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
