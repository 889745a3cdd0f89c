# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which of the filesystems that a guest has mounted lie on one of its disks.

The guest names its disks itself, so they are found by where they are plugged in, as libvirt does it.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .._rules.errors import KvmfleetError, shown
from .agent import field

_PCI = ("domain", "bus", "slot", "function")
_DRIVE = ("bus", "target", "unit")
_BLOCK_DEVICE = re.compile(r"((?:vd|sd|hd|xvd)[a-z]{1,3})([1-9][0-9]{0,2})?")


@dataclass(frozen=True)
class Address:
    """Where a disk is plugged in: the PCI address of itself or of its controller, and its place at the controller (bus, target, unit)."""

    pci: tuple[int, ...]
    drive: tuple[int, ...] | None


@dataclass(frozen=True)
class Partition:
    """A partition in the guest, or a whole disk (`number` is None)."""

    disk: str
    number: str | None

    @property
    def name(self) -> str:
        return self.disk + (self.number or "")


@dataclass(frozen=True)
class Mounted:
    """A filesystem in the guest; `device` is what it is made on, such as the volume (`dm-0`) that lies on the partition."""

    mountpoint: str
    type: str
    device: str
    partition: Partition

    @property
    def stacked(self) -> bool:
        return self.device != self.partition.name


def address(root: ET.Element, target: str) -> Address | None:
    """The address of a disk in the definition of a running domain; None where it has none on PCI."""
    disk = next((disk for disk in root.findall("devices/disk") if _named(disk, target)), None)
    place = None if disk is None else disk.find("address")
    if disk is None or place is None:
        return None
    if place.get("type") != "drive":
        return _on_pci(place, None)
    bus = disk.find("target").get("bus")
    for controller in root.findall(f"devices/controller[@type='{bus}'][@index='{place.get('controller')}']"):
        return _on_pci(controller.find("address"), tuple(int(place.get(name, "0"), 0) for name in _DRIVE))
    return None


def mounted_on(wanted: Address, filesystems: Any) -> list[Mounted]:
    """The filesystems on a disk, one for each device: of several mounts the root, else the one with the shortest path.

    :param filesystems: what the agent returned for guest-get-fsinfo.
    :raises KvmfleetError: `invalid_agent_answer`, `unsupported_device`.
    """
    listed = field({"filesystems": filesystems}, "filesystems", list)
    found: dict[str, Mounted] = {}
    for entry in listed:
        for disk in field(entry, "disk", list):
            if _address(disk) == (wanted.pci, wanted.drive or _address(disk)[1]):
                mounted = _mounted(entry, disk)
                other = found.get(mounted.device)
                if other is None or len(mounted.mountpoint) < len(other.mountpoint):
                    found[mounted.device] = mounted
    return list(found.values())


def last(mounted: Sequence[Mounted], starts: dict[str, int]) -> Mounted:
    """The one that lies nearest to the end of the disk; `starts` has the first sector of each partition, by name."""
    return max(mounted, key=lambda one: starts.get(one.partition.name, 0))


def _named(disk: ET.Element, target: str) -> bool:
    element = disk.find("target")
    return element is not None and element.get("dev") == target


def _on_pci(place: ET.Element | None, drive: tuple[int, ...] | None) -> Address | None:
    if place is None or place.get("type") != "pci":
        return None
    return Address(tuple(int(place.get(name, "0"), 0) for name in _PCI), drive)


def _address(disk: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
    controller = field(disk, "pci-controller", dict)
    return tuple(field(controller, name, int) for name in _PCI), tuple(field(disk, name, int) for name in _DRIVE)


def _mounted(entry: Any, disk: Any) -> Mounted:
    device, mountpoint = field(entry, "name", str), field(entry, "mountpoint", str)
    node = field(disk, "dev", str, optional=True)  # older agents tell none
    partition = _partition(node[len("/dev/") :] if node and node.startswith("/dev/") else device)
    if not mountpoint.startswith("/") or not mountpoint.isprintable():
        raise KvmfleetError("invalid_agent_answer", f"The guest has something mounted at {shown(mountpoint)}, which is no path.", field="mountpoint")
    return Mounted(mountpoint, shown(field(entry, "type", str), 32), shown(device, 32), partition)


def _partition(name: str) -> Partition:
    match = _BLOCK_DEVICE.fullmatch(name)
    if not match:
        raise KvmfleetError(
            "unsupported_device",
            f"A filesystem of the disk lies on {shown(name, 64)} in the guest; only partitions of disks with names such as vda, sda or hda can be grown.",
        )
    return Partition(match[1], match[2])
