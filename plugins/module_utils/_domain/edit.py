# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Pure edits of a domain definition: the flavor, where disks and NVRAM lie, and our own metadata. Nothing else changes."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from typing import Any

from .._rules import huge_pages as _huge_pages
from .._rules.errors import KvmfleetError
from . import memory as _memory, numa as _numa, pins as _pins, tree as _tree, tuning as _tuning, vcpus as _vcpus
from .definition import flavor_in_force, own_record

_NAMED = {
    "bridges": (("devices/interface[@type='bridge']/source", "bridge"),),
    "networks": (("devices/interface[@type='network']/source", "network"), ("devices/graphics/listen[@type='network']", "network")),
    "emulators": (("devices/emulator", ""),),
    "firmware": (("os/loader", ""), ("os/nvram", "template")),
}
"""Where a definition names what another host may call otherwise: elements, and the attribute, or none for the text."""
_PLACES = ("file", "dev", "pool", "volume")
"""Attributes of the source of a disk that say where it lies on this host."""


def apply_flavor(root: ET.Element, vcpus: int, ram_mib: int, tuning: Mapping[str, Any] | None = None, pins: Sequence[int] | None = None) -> None:
    """Give the guest `vcpus` vCPUs, all online, and `ram_mib` MiB, with no balloon target below, and what the flavor's extra specs set.

    What it has already is left alone, room for hot-plugged vCPUs and balloon targets included. What an earlier flavor set and this one does
    not, is as it was before that flavor.

    :param tuning: as `planning/extra_specs.py` makes it; None for no other flavor than the one in force.
    :param pins: for a flavor with CPUs of its own, which CPU of this host each vCPU is bound to.
    :raises KvmfleetError: `unsupported_...`, with the numbers, for what the definition cannot be given.
    """
    have = flavor_in_force(root)
    resized = (vcpus, ram_mib) != (have.vcpus, have.ram)
    if tuning is None and not resized:
        if pins is not None:
            _pins.apply(root, pins)
        return
    topology, numa = ((tuning or {}).get(name) for name in ("topology", "numa"))
    _tuning.apply(root, tuning or {})
    recounted = vcpus != have.vcpus or bool((topology or numa) and vcpus != _vcpus.maximum(root))
    if recounted:
        _vcpus.set_vcpus(root, vcpus)
    _pins.apply(root, pins)
    if recounted or topology or own_record(root, "topology") is not None:
        _vcpus.set_topology(root, _vcpus.maximum(root), topology)
    if ram_mib != have.ram:
        _memory.set_memory(root, ram_mib * 1024)
    if resized or recounted or numa or own_record(root, "numa") is not None:
        _numa.set_cells(root, _vcpus.maximum(root), _memory.base_kib(root), numa)
    if resized or (tuning or {}).get("hugepages") is not None:
        cells = [_numa.cell_kib(cell) for cell in root.findall("cpu/numa/cell")]
        _huge_pages.require_whole_pages(root, cells or [_memory.base_kib(root)])


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


def set_kvmfleet_metadata(
    root: ET.Element, flavor_name: str | None, zone: str | None, origin_host: str, migration_id: str, extra_specs: Mapping[str, str] | None = None
) -> None:
    """Record the flavor by name (with the size that it has in this definition), the zone asked for, and where the guest came from."""
    have = flavor_in_force(root)
    specs = [("extra_spec", {"name": name, "value": value}) for name, value in sorted((extra_specs or {}).items())]
    _tree.record(root, "flavor", {"name": flavor_name, "vcpus": str(have.vcpus), "ram": str(have.ram)} if flavor_name else None, specs)
    _tree.record(root, "availability_zone", {"name": zone} if zone else None)
    _tree.record(root, "origin", {"host": origin_host, "migration": migration_id})


def to_string(root: ET.Element) -> str:
    """The definition as text, ready for libvirt to define."""
    return ET.tostring(root, encoding="unicode")
