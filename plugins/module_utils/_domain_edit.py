# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Pure edits of a domain definition: the flavor, where disks and NVRAM lie, and our own metadata. Nothing else changes."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Mapping

from ._domain_xml import METADATA_NAMESPACE, flavor_in_force, integer, memory_kib, metadata_element, own_record
from ._errors import KvmfleetError

_PREFIX = "kvmfleet"
_NAMED = {
    "bridges": (("devices/interface[@type='bridge']/source", "bridge"),),
    "networks": (("devices/interface[@type='network']/source", "network"), ("devices/graphics/listen[@type='network']", "network")),
    "emulators": (("devices/emulator", ""),),
    "firmware": (("os/loader", ""), ("os/nvram", "template")),
}
"""Where a definition names what another host may call otherwise: elements, and the attribute, or none for the text."""
_INNER = ("dies", "clusters", "cores", "threads")


def apply_flavor(root: ET.Element, vcpus: int, ram_mib: int) -> None:
    """Give the guest `vcpus` vCPUs, all online, and `ram_mib` MiB, with no balloon target below.

    What it has already is left alone, room for hot-plugged vCPUs and balloon targets included.
    """
    have = flavor_in_force(root)
    if vcpus != have.vcpus:
        _set_vcpus(root, vcpus)
    if ram_mib != have.ram:
        _set_memory(root, ram_mib * 1024)
    if (vcpus, ram_mib) != (have.vcpus, have.ram):
        _set_numa(root, vcpus, ram_mib * 1024)


def set_disk_source(root: ET.Element, target: str, path: str, fmt: str | None = None) -> None:
    """Let the disk `target` (vda ...) lie in the file `path`, in another format if one is given; a volume of a pool becomes a file.

    A backing chain spelled out in the definition gives way to the one in the image's own header.
    """
    _set_source(root, target, "file", {"file": path}, fmt)


def set_disk_volume(root: ET.Element, target: str, pool: str, volume: str, fmt: str | None = None) -> None:
    """Let the disk `target` be the volume of a storage pool; else as `set_disk_source`."""
    _set_source(root, target, "volume", {"pool": pool, "volume": volume}, fmt)


def _set_source(root: ET.Element, target: str, kind: str, where: dict[str, str], fmt: str | None) -> None:
    for disk in root.findall("devices/disk"):
        name, source = disk.find("target"), disk.find("source")
        if name is not None and name.get("dev") == target and source is not None and (source.get("file") or source.get("volume")):
            disk.set("type", kind)
            for attribute in ("file", "pool", "volume", "mode"):
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
                _remove(disk, backing)
            return
    raise KvmfleetError("disk_not_found", f"The definition has no disk {target} in a file.", target=target)


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


def set_kvmfleet_metadata(root: ET.Element, flavor_name: str | None, zone: str | None, origin_host: str, migration_id: str) -> None:
    """Record the flavor by name (with the size that it has in this definition), the zone asked for, and where the guest came from."""
    have = flavor_in_force(root)
    records = {
        "flavor": flavor_name and {"name": flavor_name, "vcpus": str(have.vcpus), "ram": str(have.ram)},
        "availability_zone": zone and {"name": zone},
        "origin": {"host": origin_host, "migration": migration_id},
    }
    for name, attributes in records.items():
        _record(root, name, attributes or None)


def to_string(root: ET.Element) -> str:
    """The definition as text, ready for libvirt to define."""
    return ET.tostring(root, encoding="unicode")


def _set_vcpus(root: ET.Element, vcpus: int) -> None:
    _refuse_stray_vcpus(root, vcpus)
    element = root.find("vcpu")
    if element is None:
        element = ET.Element("vcpu")
        _insert_after(root, element, ("currentMemory", "memory", "maxMemory", "name"))
    element.text = str(vcpus)
    element.attrib.pop("current", None)
    _set_individual_vcpus(root, vcpus)
    _set_topology(root, vcpus)
    tune = root.find("cputune")
    for pin in [] if tune is None else tune.findall("vcpupin"):
        if integer(pin.get("vcpu", "0"), "vcpupin") >= vcpus:
            _remove(tune, pin)


def _refuse_stray_vcpus(root: ET.Element, vcpus: int) -> None:
    for element in (*root.findall("cputune/vcpusched"), *root.findall("cputune/cachetune"), *root.findall("cputune/memorytune")):
        last = max((int(number) for number in re.findall(r"\d+", element.get("vcpus", ""))), default=0)
        if last >= vcpus:
            raise KvmfleetError(
                "unsupported_cputune",
                f"<{element.tag} vcpus='{element.get('vcpus')}'> tunes vCPU {last}, which a flavor of {vcpus} vCPUs has not: edit the definition first.",
                need=last + 1,
                have=vcpus,
            )


def _set_individual_vcpus(root: ET.Element, vcpus: int) -> None:
    """Where vCPUs are listed one by one, list all of them, online; new ones are hot-pluggable if any was."""
    listed = root.find("vcpus")
    if listed is None:
        return
    known = {element.get("id"): element for element in listed.findall("vcpu")}
    pluggable = "yes" if any(element.get("hotpluggable") == "yes" for element in known.values()) else "no"
    for number in range(vcpus):
        if str(number) not in known:
            known[str(number)] = ET.SubElement(listed, "vcpu", {"id": str(number), "enabled": "yes", "hotpluggable": pluggable})
    for number, element in known.items():
        element.set("enabled", "yes")
        element.attrib.pop("order", None)
        if integer(number, "vcpu id") >= vcpus:
            _remove(listed, element)


def _set_topology(root: ET.Element, vcpus: int) -> None:
    """Keep dies, clusters, cores and threads and vary the sockets; where they do not divide the vCPUs, one core a socket.

    The shape that had to give way is kept in our metadata, and comes back with the first flavor that it fits.
    """
    topology = root.find("cpu/topology")
    if topology is None:
        return
    kept = own_record(root, "topology")
    shape = {name: value for name, value in (topology if kept is None else kept).attrib.items() if name in _INNER}
    inner = 1
    for name, value in shape.items():
        inner *= integer(value, f"topology {name}", least=1)
    fits = vcpus % inner == 0
    topology.attrib.update({name: value if fits else "1" for name, value in shape.items()})
    topology.set("sockets", str(vcpus // inner if fits else vcpus))
    _record(root, "topology", None if fits else shape)


def _set_memory(root: ET.Element, kib: int) -> None:
    memory = root.find("memory")
    if memory is None:
        raise KvmfleetError("invalid_domain_xml", "The definition has no <memory>.")
    limit, hard_limit = root.find("maxMemory"), root.find("memtune/hard_limit")
    if root.find("devices/memory") is not None:
        raise KvmfleetError("unsupported_memory_devices", "The guest has memory devices (DIMMs); its memory cannot be resized yet.")
    for element, code in ((limit, "unsupported_max_memory"), (hard_limit, "unsupported_memtune")):
        if element is not None and memory_kib(element) < kib:
            have = memory_kib(element) // 1024
            raise KvmfleetError(
                code, f"<{element.tag}> allows {have} MiB, the flavor has {kib // 1024} MiB: raise it in the definition first.", need=kib // 1024, have=have
            )
    current = root.find("currentMemory")
    for element in (memory,) if current is None else (memory, current):
        element.text = str(kib)
        element.set("unit", "KiB")


def _set_numa(root: ET.Element, vcpus: int, kib: int) -> None:
    cells = root.findall("cpu/numa/cell")
    if not cells:
        return
    if len(cells) > 1:
        if sum(_cell_kib(cell) for cell in cells) != kib or sum(_cpus_in(cell.get("cpus", "")) for cell in cells) != vcpus:
            raise KvmfleetError("unsupported_numa", f"The guest has {len(cells)} NUMA cells; they cannot be resized yet.", cells=len(cells))
        return
    cells[0].set("cpus", f"0-{vcpus - 1}" if vcpus > 1 else "0")
    cells[0].set("memory", str(kib))
    cells[0].set("unit", "KiB")


def _cell_kib(cell: ET.Element) -> int:
    amount = ET.Element("memory", {"unit": cell.get("unit", "KiB")})
    amount.text = cell.get("memory")
    return memory_kib(amount)


def _cpus_in(ranges: str) -> int:
    return sum(int(last or first) - int(first) + 1 for first, last in re.findall(r"(\d+)(?:-(\d+))?", ranges))


def _record(root: ET.Element, name: str, attributes: dict[str, str] | None) -> None:
    """Set our record `name`, or remove it and whatever is empty then."""
    metadata, own, existing = root.find("metadata"), metadata_element(root), own_record(root, name)
    if attributes is not None:
        if metadata is None:
            metadata = ET.Element("metadata")
            _insert_after(root, metadata, ("description", "title", "genid", "uuid", "name"))
        if own is None:
            own = ET.SubElement(metadata, f"{_PREFIX}:instance", {f"xmlns:{_PREFIX}": METADATA_NAMESPACE})
        if existing is None:
            existing = ET.SubElement(own, f"{own.tag.rpartition(':')[0]}:{name}")
        existing.attrib.clear()
        existing.attrib.update(attributes)
    elif existing is not None:
        _remove(own, existing)
        for parent, child in ((metadata, own), (root, metadata)):
            if not len(child):
                _remove(parent, child)


def _insert_after(root: ET.Element, element: ET.Element, siblings: tuple[str, ...]) -> None:
    positions = [index for index, child in enumerate(root) if child.tag in siblings]
    root.insert(max(positions, default=-1) + 1, element)


def _remove(parent: ET.Element, child: ET.Element) -> None:
    """Remove the child, and leave the text that follows it where it is."""
    index = list(parent).index(child)
    if child.tail and child.tail.strip():
        if index:
            parent[index - 1].tail = (parent[index - 1].tail or "") + child.tail
        else:
            parent.text = (parent.text or "") + child.tail
    parent.remove(child)
