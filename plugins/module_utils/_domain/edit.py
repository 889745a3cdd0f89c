# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Pure edits of a domain definition: where disks and NVRAM lie, and what a host calls otherwise. Nothing else changes."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Mapping

from .._rules.errors import KvmfleetError
from . import tree as _tree

_NAMED = {
    "bridges": (("devices/interface[@type='bridge']/source", "bridge"),),
    "networks": (("devices/interface[@type='network']/source", "network"), ("devices/graphics/listen[@type='network']", "network")),
    "emulators": (("devices/emulator", ""),),
    "firmware": (("os/loader", ""), ("os/nvram", "template")),
}
"""Where a definition names what another host may call otherwise: elements, and the attribute, or none for the text."""
_PLACES = ("file", "dev", "pool", "volume")
"""Attributes of the source of a disk that say where it lies on this host."""


def set_disk_source(root: ET.Element, target: str, path: str, fmt: str | None = None) -> None:
    """Let the disk `target` (vda ...) lie in the file `path`, in another format if one is given; a volume of a pool becomes a file.

    A backing chain spelled out in the definition gives way to the one in the image's own header.
    """
    set_disk_place(root, target, "file", {"file": path}, fmt)


def set_disk_volume(root: ET.Element, target: str, pool: str, volume: str, fmt: str | None = None) -> None:
    """Let the disk `target` be the volume of a storage pool; else as `set_disk_source`."""
    set_disk_place(root, target, "volume", {"pool": pool, "volume": volume}, fmt)


def set_disk_place(root: ET.Element, target: str, source_type: str, where: Mapping[str, str], fmt: str | None = None) -> None:
    """Let the disk `target` be of a type, and lie where the attributes of its source say."""
    for disk in root.findall("devices/disk"):
        name, source = disk.find("target"), disk.find("source")
        if name is not None and name.get("dev") == target and source is not None and any(map(source.get, _PLACES)):
            disk.set("type", source_type)
            for attribute in (*_PLACES, "mode"):
                source.attrib.pop(attribute, None)
            source.attrib.update(where)
            driver = disk.find("driver")
            if fmt is not None and driver is not None:
                driver.set("type", fmt)
            elif fmt is not None:
                disk.insert(0, ET.Element("driver", {"name": "qemu", "type": fmt}))
            backing = disk.find("backingStore")
            # An empty one ends the chain: right for the image that it was written for, not for a layer over it.
            if backing is not None and (fmt is not None or backing.find("source") is not None):
                _tree.remove(disk, backing)
            return
    raise KvmfleetError("disk_not_found", f"The definition has no disk {target} in a file.", target=target)


def empty_drive(root: ET.Element, target: str) -> None:
    """Let nothing be in the drive `target`; what is no drive for media is left alone."""
    for disk in root.findall("devices/disk"):
        name, source = disk.find("target"), disk.find("source")
        if name is not None and name.get("dev") == target and source is not None and disk.get("device") in ("cdrom", "floppy"):
            disk.set("type", "file")
            _tree.remove(disk, source)


def map_names(root: ET.Element, mappings: Mapping[str, Mapping[str, str]]) -> None:
    """Let the definition name bridges, networks, emulators and firmware as this host calls them.

    :param mappings: by kind what they are called in the definition -> what they are here.
    """
    for kind, names in mappings.items():
        for select, attribute in _NAMED.get(kind, ()):
            for element in root.findall(select):
                name = element.get(attribute) if attribute else (element.text or "").strip()
                if name in names and attribute:
                    element.set(attribute, names[name])
                elif name in names:
                    element.text = names[name]


def set_boot_file(root: ET.Element, name: str, path: str) -> None:
    """Let the kernel, initrd or dtb that the guest boots from lie in `path`."""
    element = root.find(f"os/{name}")
    if element is None:
        raise KvmfleetError("boot_file_not_found", f"The definition has no <{name}>.")
    element.text = path


def set_nvram(root: ET.Element, path: str) -> None:
    """Let the firmware variables lie in `path`."""
    nvram = root.find("os/nvram")
    if nvram is None:
        raise KvmfleetError("nvram_not_found", "The definition has no <nvram>.")
    source = nvram.find("source")
    if source is not None:
        source.set("file", path)
    else:
        nvram.text = path


def to_string(root: ET.Element) -> str:
    """The definition as text, ready for libvirt to define."""
    return ET.tostring(root, encoding="unicode")
