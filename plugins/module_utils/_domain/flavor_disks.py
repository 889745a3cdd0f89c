# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The disks of a guest that a flavor's `ephemeral` and `swap` are about: which they are, and how a definition gets, changes or loses one.

Only our metadata and the caller know them, by target and by the name of the file, so that another disk which has got the target
since is not taken for one. Names and sizes are never a reason to guess.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from .._rules import file_names as _file_names
from .._rules.errors import KvmfleetError
from . import tree as _tree
from .definition import Disk, integer, own_record

ROLES = ("ephemeral", "swap")

_RECORD = "disks"
_ITEM = "disk"
_LAYER = _file_names.RESIZE.partition("{")[0]
_LETTERED = re.compile(r"([a-z]+?d)([a-z]{1,2})")
_MOST_TARGETS = 26 * 27
_MOST_IDE = 4
_UNITS = {"ide": 2, "sata": 6, "scsi": 7}
"""Disks on a bus of a controller, as libvirt counts them to give a target its address."""


def roles(root: ET.Element, disks: Sequence[Disk], told: Mapping[str, str | None], unfit: Callable[[Disk], str | None]) -> dict[str, str]:
    """Role (ephemeral, swap) -> target of the disk that has it; a role that no disk has is left out.

    :param disks: of the definition, the root disk being known; :param told: role -> target that the caller names, None or empty where none is.
    :param unfit: says why what a disk lies in keeps it from being one of these.
    :raises KvmfleetError: `invalid_ephemeral_disk`, `invalid_swap_disk` for a target that cannot be it.
    """
    named = {role: target for role, target in told.items() if target}
    found = {role: target for role, target in _recorded(root, disks, unfit).items() if role not in named and target not in named.values()}
    for role, target in named.items():
        reason = _why_not({disk.target: disk for disk in disks}, target, unfit)
        if reason is None and list(named.values()).count(target) > 1:
            reason = "cannot be the ephemeral and the swap disk at once"
        if reason is not None:
            others = ", ".join(disk.target for disk in disks if _why_not({disk.target: disk}, disk.target, unfit) is None)
            raise KvmfleetError(
                f"invalid_{role}_disk",
                f"{role}_disk: {target} {reason}; a disk in a file or a volume that the guest writes to alone, other than its root disk, can be it"
                f" ({others or 'it has none'}).",
                need=target,
            )
        found[role] = target
    return found


def free_targets(root: ET.Element, disks: Sequence[Disk], count: int) -> list[str]:
    """The next targets after the root disk, on its bus, that no disk has; fewer than `count` where the bus has no more.

    libvirt makes the address of a disk that is no PCI device out of its target: one whose address is taken is passed over.
    """
    like = next((disk for disk in disks if disk.is_root), None)
    named = None if like is None else _LETTERED.fullmatch(like.target)
    if like is None or named is None:
        return []
    taken, addresses = {disk.target for disk in disks}, _drive_addresses(root, like.bus)
    found: list[str] = []
    for index in range(_index(named[2]) + 1, _MOST_IDE if like.bus == "ide" else _MOST_TARGETS):
        target = named[1] + _letters(index)
        if len(found) < count and target not in taken and _drive_address(like.bus, index) not in addresses:
            found.append(target)
    return found


def apply(root: ET.Element, record: Mapping[str, Any], define: Callable[[ET.Element, Mapping[str, Any], str], None]) -> None:
    """Add, re-create and remove the disks that the operation changes, and note in our metadata which are the flavor's.

    :param record: `new_disks` (`target`, `path`, `format`, `pool`, `volume`, `beside`: the target of the disk that it is made after),
        `dropped_disks` (targets) and `flavor_disks` (role -> `target` and `name`; None leaves the metadata as it is), each of them optional.
    :param define: lets a definition name a disk of a record, in the format.
    """
    for target in record.get("dropped_disks", ()):
        devices, disk = root.find("devices"), _element(root, target)
        if devices is not None and disk is not None:
            _tree.remove(devices, disk)
    for disk in record.get("new_disks", ()):
        if _element(root, disk["target"]) is None:
            _add(root, disk["target"], disk["beside"])
        define(root, disk, disk["format"])
    known = record.get("flavor_disks")
    if known is not None:
        items = [(_ITEM, {"role": role, **disk}) for role, disk in sorted(known.items())]
        _tree.record(root, _RECORD, {} if items else None, items)


def _recorded(root: ET.Element, disks: Sequence[Disk], unfit: Callable[[Disk], str | None]) -> dict[str, str]:
    there = {disk.target: disk for disk in disks}
    found = {}
    for item in _tree.items_of(own_record(root, _RECORD), _ITEM):
        role, target, name = item.get("role", ""), item.get("target", ""), item.get("name", "")
        if role in ROLES and _why_not(there, target, unfit) is None:
            # Until a resize in place is confirmed, what has the target is a layer over it.
            is_now = there[target].file_name
            if is_now == name or is_now.startswith(name + _LAYER):
                found[role] = target
    return found


def _why_not(disks: Mapping[str, Disk], target: str, unfit: Callable[[Disk], str | None]) -> str | None:
    """Why the disk cannot be an ephemeral or a swap disk."""
    disk = disks.get(target)
    if disk is None:
        return f"is none of the disks of the guest ({', '.join(disks)})"
    if disk.is_root:
        return "is the root disk"
    if disk.device != "disk":
        return f"is a {disk.device}"
    if disk.readonly or disk.shareable:
        return "is read-only" if disk.readonly else "is shared with other guests (<shareable/>)"
    return unfit(disk)


def _add(root: ET.Element, target: str, beside: str) -> None:
    """A disk on the same bus, which QEMU opens in the same way, but that has no source yet; libvirt finds an address for it."""
    devices, like = root.find("devices"), _element(root, beside)
    if devices is None or like is None:
        raise KvmfleetError("disk_not_found", f"The definition has no disk {beside}.", target=beside)
    disk = ET.Element("disk", {"type": "file", "device": "disk"})
    driver, place = like.find("driver"), like.find("target")
    ET.SubElement(disk, "driver", {"name": "qemu", **({} if driver is None else driver.attrib), "type": "qcow2"})
    ET.SubElement(disk, "source", {"file": "/"})
    bus = None if place is None else place.get("bus")
    ET.SubElement(disk, "target", {"dev": target, **({"bus": bus} if bus else {})})
    _tree.insert_after(devices, disk, ("emulator", "disk"))


def _element(root: ET.Element, target: str) -> ET.Element | None:
    found = (disk for disk in root.findall("devices/disk") for place in disk.findall("target") if place.get("dev") == target)
    return next(found, None)


def _index(letters: str) -> int:
    """a -> 0, z -> 25, aa -> 26."""
    number = 0
    for letter in letters:
        number = number * 26 + ord(letter) - ord("a") + 1
    return number - 1


def _letters(index: int) -> str:
    prefix, last = divmod(index, 26)
    return (_letters(prefix - 1) if prefix else "") + chr(ord("a") + last)


def _drive_address(bus: str | None, index: int) -> tuple[int, int, int] | None:
    """Controller, bus and unit that libvirt gives the disk with this target; None where it takes any free address."""
    if bus not in _UNITS:
        return None
    if bus == "ide":
        return index // _MOST_IDE, index % _MOST_IDE // _UNITS[bus], index % _UNITS[bus]
    return index // _UNITS[bus], 0, index % _UNITS[bus]


def _drive_addresses(root: ET.Element, bus: str | None) -> set[tuple[int, int, int]]:
    found = set()
    for disk in root.findall("devices/disk"):
        place, address = disk.find("target"), disk.find("address[@type='drive']")
        if place is not None and place.get("bus") == bus and address is not None:
            controller, number, unit = (integer(address.get(part, "0"), f"{part} of a disk") for part in ("controller", "bus", "unit"))
            found.add((controller, number, unit))
    return found
