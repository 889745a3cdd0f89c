# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Reading of libvirt's domain XML: disks, interfaces, firmware, flavor, and everything that it refers to outside itself.

The tree is parsed without namespace processing: prefixes are part of the tag (`qemu:commandline`) and `xmlns:` declarations are plain
attributes, so that a document which is written back keeps every namespace as its author wrote it.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import dataclass, field
from typing import Any
from xml.parsers import expat

from .._rules import memory_units as _memory_units
from .._rules.errors import KvmfleetError

BOOT_FILES = ("kernel", "initrd", "dtb")
"""Elements of `<os>` that name a file which the guest boots from, beside its disks."""
"""Of a layer over a disk, until a resize in place is confirmed or reverted; the UUID of the operation follows."""
METADATA_NAMESPACE = "https://kvmfleet.github.io/compute/domain/1"
MAX_BYTES = 4 * 1024 * 1024
MAX_DEPTH = 100
MAX_ELEMENTS = 20000
"""Far more than any guest needs, and so few that everything which reads a definition ends soon."""

_ROOT_BUSES = ("virtio", "scsi", "sata", "ide")


@dataclass(frozen=True)
class Disk:
    """One `<disk>`. `format` is raw where the definition names none, as libvirt takes it; it is never probed."""

    target: str
    device: str
    source_type: str
    path: str | None
    pool: str | None
    volume: str | None
    format: str
    readonly: bool
    shareable: bool
    bus: str | None
    serial: str | None
    boot_order: int | None
    is_root: bool
    encrypted: bool = False
    startup_policy: str | None = None

    @property
    def file_name(self) -> str:
        """The last part of its name, whatever it lies in; empty for an empty drive."""
        return self.volume or (self.path or "").rpartition("/")[2]


@dataclass(frozen=True)
class NetworkDisk:
    """The source of a `<disk type='network'>`.

    :param hosts: servers as `name` and `port`, None for the protocol's own; :param files: files of the host that it needs.
    """

    target: str
    protocol: str
    name: str | None
    hosts: list[dict[str, Any]]
    files: list[str]


@dataclass(frozen=True)
class Interface:
    """One `<interface>`; `source` is the network, bridge or device that it is plugged into, `mtu` in bytes as far as the definition sets it."""

    mac: str | None
    type: str
    source: str | None
    model: str | None
    mtu: int | None = None


@dataclass(frozen=True)
class Firmware:
    """`<os>` as far as firmware goes: kind is bios or uefi; formats are raw where the definition names none."""

    kind: str
    loader: str | None
    loader_format: str | None
    nvram: str | None
    nvram_format: str | None
    nvram_template: str | None


@dataclass(frozen=True)
class FlavorInForce:
    """What the guest has now: vCPUs online at boot, memory in MiB.

    The name is None, and there are no extra specs, unless our metadata names a flavor of just this size.
    """

    name: str | None
    vcpus: int
    ram: int
    extra_specs: dict[str, str] = field(default_factory=dict)


def parse(text: str) -> ET.Element:
    """The root of a domain definition; KvmfleetError `invalid_domain_xml` for anything else, DOCTYPE and entities included."""
    root = parse_document(text)
    if root.tag != "domain":
        raise KvmfleetError("invalid_domain_xml", f"The document is a <{root.tag}>, not a libvirt <domain>.")
    return root


def parse_document(text: str) -> ET.Element:
    """The root of any XML of libvirt, comments and prefixes kept."""
    size = len(text.encode(errors="surrogatepass"))
    if size > MAX_BYTES:
        raise KvmfleetError("invalid_domain_xml", f"The document has {size} bytes, more than {MAX_BYTES}.", limit=MAX_BYTES)
    builder = ET.TreeBuilder(insert_comments=True, insert_pis=True)
    parser = expat.ParserCreate()
    parser.buffer_text = True
    depth = elements = 0

    def start(tag: str, attributes: dict[str, str]) -> None:
        nonlocal depth, elements
        depth, elements = depth + 1, elements + 1
        for what, have, limit in (("levels", depth, MAX_DEPTH), ("elements", elements, MAX_ELEMENTS)):
            if have > limit:
                raise KvmfleetError("invalid_domain_xml", f"The document has more than {limit} {what}.", limit=limit)
        builder.start(tag, attributes)

    def end(tag: str) -> None:
        nonlocal depth
        depth -= 1
        builder.end(tag)

    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = builder.data
    parser.CommentHandler = builder.comment
    parser.ProcessingInstructionHandler = builder.pi
    parser.StartDoctypeDeclHandler = _refuse_doctype
    try:
        parser.Parse(text, True)
        return builder.close()
    except (expat.ExpatError, UnicodeError, AssertionError) as exc:  # half a surrogate pair; an element that is not closed
        raise KvmfleetError("invalid_domain_xml", f"The document is not well-formed XML: {exc}.") from exc


def machine_and_arch(root: ET.Element) -> tuple[str | None, str | None]:
    """Machine type and architecture; None where libvirt would choose."""
    element = root.find("os/type")
    return (None, None) if element is None else (element.get("machine"), element.get("arch"))


def disks(root: ET.Element, root_target: str | None = None) -> list[Disk]:
    """All disks in document order, exactly one at most being the root disk (see `root_disk`).

    :param root_target: of the disk that is the root disk whatever the rule says; KvmfleetError `invalid_root_disk` if it cannot be.
    """
    chosen = _root_disk_element(root, root_target)
    return [_disk(element, element is chosen) for element in root.findall("devices/disk")]


def network_disks(root: ET.Element) -> list[NetworkDisk]:
    """The disks in network storage, in document order."""
    found = []
    for element in root.findall("devices/disk[@type='network']"):
        source = element.find("source")
        if source is not None:
            servers = [server for server in source.findall("host") if server.get("transport", "tcp") != "unix"]
            found.append(
                NetworkDisk(
                    target=_attribute(element, "target", "dev") or "",
                    protocol=source.get("protocol", ""),
                    name=source.get("name"),
                    hosts=[{"name": server.get("name"), "port": integer(server.get("port"), "port") if server.get("port") else None} for server in servers],
                    files=[config.get("file", "") for config in source.findall("config")],
                )
            )
    return found


def root_disk(root: ET.Element) -> Disk | None:
    """The disk that a flavor's `disk` is about, among writable ones of device `disk` that are not shared:

    the lowest `<boot order>`; without boot orders the first one on virtio, scsi, sata or ide, in document order.
    """
    return next((disk for disk in disks(root) if disk.is_root), None)


def interfaces(root: ET.Element) -> list[Interface]:
    """All network interfaces in document order."""
    return [
        Interface(
            mac=_attribute(element, "mac", "address"),
            type=element.get("type", ""),
            source=next((value for name in ("network", "bridge", "dev") if (value := _attribute(element, "source", name))), None),
            model=_attribute(element, "model", "type"),
            mtu=int(size) if (size := _attribute(element, "mtu", "size") or "").isdecimal() else None,
        )
        for element in root.findall("devices/interface")
    ]


def firmware(root: ET.Element) -> Firmware:
    """Firmware of the guest: UEFI when libvirt chooses it (`<os firmware='efi'>`), the loader is pflash, or there is NVRAM."""
    loader, nvram = root.find("os/loader"), root.find("os/nvram")
    system = root.find("os")
    chosen = system is not None and system.get("firmware") == "efi"
    pflash = loader is not None and loader.get("type") == "pflash"
    nvram_path = None if nvram is None else text_of(nvram) or _attribute(nvram, "source", "file")
    return Firmware(
        kind="uefi" if chosen or pflash or nvram is not None else "bios",
        loader=text_of(loader),
        loader_format=loader.get("format", "raw") if loader is not None and text_of(loader) else None,
        nvram=nvram_path,
        nvram_format=nvram.get("format", "raw") if nvram is not None and nvram_path else None,
        nvram_template=None if nvram is None else nvram.get("template"),
    )


def boot_files(root: ET.Element) -> dict[str, str]:
    """Paths of the files that QEMU itself loads (direct kernel boot), by the element that names them."""
    found = {name: text_of(root.find(f"os/{name}")) for name in BOOT_FILES}
    return {name: path for name, path in found.items() if path}


def flavor_in_force(root: ET.Element) -> FlavorInForce:
    """vCPUs and memory as defined, with the flavor's name and extra specs if our metadata recorded one for exactly these."""
    vcpu, memory = root.find("vcpu"), root.find("memory")
    vcpus = 1 if vcpu is None else integer(vcpu.get("current") or vcpu.text, "vcpu")
    ram = 0 if memory is None else _memory_units.kib(memory) // 1024
    flavor = own_record(root, "flavor")
    if flavor is None or (flavor.get("vcpus"), flavor.get("ram")) != (str(vcpus), str(ram)):
        return FlavorInForce(name=None, vcpus=vcpus, ram=ram)
    specs = {spec.get("name", ""): spec.get("value", "") for spec in flavor.findall(f"{flavor.tag.rpartition(':')[0]}:extra_spec")}
    return FlavorInForce(name=flavor.get("name"), vcpus=vcpus, ram=ram, extra_specs=specs)


def metadata_element(root: ET.Element) -> ET.Element | None:
    """Our own element below `<metadata>`, whatever prefix its namespace has."""
    metadata = root.find("metadata")
    for element in () if metadata is None else metadata:
        if isinstance(element.tag, str) and ":" in element.tag:
            declaration = f"xmlns:{element.tag.partition(':')[0]}"
            if next((scope.get(declaration) for scope in (element, metadata, root) if scope.get(declaration)), None) == METADATA_NAMESPACE:
                return element
    return None


def own_record(root: ET.Element, name: str) -> ET.Element | None:
    """One record (flavor, topology, numa, tuning, pins, disks, availability_zone, origin) of our metadata."""
    own = metadata_element(root)
    return None if own is None else own.find(f"{own.tag.rpartition(':')[0]}:{name}")


def migration_uuid(root: ET.Element) -> str | None:
    """UUID of the operation that wrote this definition, or None."""
    origin = own_record(root, "origin")
    return None if origin is None else origin.get("migration")


def _disk(element: ET.Element, is_root: bool) -> Disk:
    order = _attribute(element, "boot", "order")
    return Disk(
        target=_attribute(element, "target", "dev") or "",
        device=element.get("device", "disk"),
        source_type=element.get("type", "file"),
        path=_attribute(element, "source", "file") or _attribute(element, "source", "dev"),
        pool=_attribute(element, "source", "pool"),
        volume=_attribute(element, "source", "volume"),
        format=_attribute(element, "driver", "type") or "raw",
        readonly=element.find("readonly") is not None or element.get("device") == "cdrom",
        shareable=element.find("shareable") is not None,
        bus=_attribute(element, "target", "bus"),
        serial=text_of(element.find("serial")),
        boot_order=None if order is None else integer(order, "boot order"),
        is_root=is_root,
        encrypted=element.find("encryption") is not None or element.find("source/encryption") is not None,
        startup_policy=_attribute(element, "source", "startupPolicy"),
    )


def _root_disk_element(root: ET.Element, target: str | None) -> ET.Element | None:
    candidates = [(element, disk) for element in root.findall("devices/disk") for disk in [_disk(element, False)] if _may_be_root(disk)]
    if target is not None:
        named = {disk.target: element for element, disk in candidates}
        if target not in named:
            raise KvmfleetError(
                "invalid_root_disk",
                f"root_disk: the guest has no disk {target} that it writes to alone; it has {', '.join(named) or 'none'}.",
                have=list(named),
                need=target,
            )
        return named[target]
    ordered = [(disk.boot_order, index, element) for index, (element, disk) in enumerate(candidates) if disk.boot_order is not None]
    if ordered:
        return min(ordered)[2]
    return next((element for element, disk in candidates if disk.bus in _ROOT_BUSES), None)


def _may_be_root(disk: Disk) -> bool:
    return disk.device == "disk" and not disk.readonly and not disk.shareable


def _attribute(element: ET.Element, child: str, name: str) -> str | None:
    found = element.find(child)
    return None if found is None else found.get(name)


def text_of(element: ET.Element | None) -> str | None:
    return None if element is None else (element.text or "").strip() or None


def integer(text: str | None, what: str, least: int = 0) -> int:
    """A number of a definition; KvmfleetError `invalid_domain_xml` for anything else, or less than `least`."""
    try:
        number = int(text or "")
    except ValueError as exc:
        raise KvmfleetError("invalid_domain_xml", f"{what}: {text!r} is not a number.") from exc
    if number < least:
        raise KvmfleetError("invalid_domain_xml", f"{what}: {number} is less than {least}.")
    return number


def _refuse_doctype(*_declaration: object) -> None:
    raise KvmfleetError("invalid_domain_xml", "The document declares a DOCTYPE; libvirt writes none, and entities are not expanded.")
