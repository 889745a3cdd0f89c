# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a host is, and can offer a guest besides capacity: CPU features, firmware, TPM, NUMA cells, PCI devices, cgroups, base images."""

from __future__ import annotations

import os
import re
import socket
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Collection, Iterable
from typing import Any

from .._domain import definition as _definition
from .._journal.state_dir import StateDir
from .._libvirt import binding as _binding, connection as _connection
from .._rules import cpu_set as _cpu_set, memory_units as _memory_units
from .._storage import identity as _identity
from . import bindings as _bindings

_EMULATORS = {directory: re.compile(r"qemu-system-.+|qemu-kvm|kvm") for directory in ("/usr/bin", "/usr/local/bin", "/usr/libexec")}
_FIRMWARE = re.compile(r".+\.(?:fd|bin|qcow2|raw)")
_FIRMWARE_DIRECTORIES = ("/usr/share/OVMF", "/usr/share/AAVMF", "/usr/share/edk2/ovmf", "/usr/share/edk2/x64", "/usr/share/edk2/aarch64", "/usr/share/qemu")
# Only these know of secure boot, so the default machine would not tell.
_SECURE_MACHINES = {"x86_64": "q35"}
_PASSTHROUGH_DRIVER = "vfio-pci"


def offers(connection: Any, state: StateDir, capabilities: ET.Element, bound: _bindings.Bindings, claimed_cpus: Collection[int] = ()) -> dict[str, Any]:
    """The facts that filters for plain hosts read; what a driver does not know is None, and then left to the claim.

    :param capabilities: the root of the host's capabilities; :param bound: what its guests have taken of it; :param claimed_cpus: CPUs that
        claims have set aside for guests.
    """
    machine = _SECURE_MACHINES.get(capabilities.findtext("host/cpu/arch", ""))
    domain = _binding.supported(lambda: _definition.parse_document(_connection.domain_capabilities(connection, machine=machine)), None)
    return {
        "host_ip": _address(),
        "cgroup_version": cgroup_version(),
        "numa_cells": numa_cells(capabilities, _free_pages(connection, capabilities), {*bound.cpus, *claimed_cpus}),
        "pci_devices": pci_pools(pci_devices(connection), bound.pci),
        "cpu": None if domain is None else cpu(domain, _features(connection, domain)),
        "firmware": None if domain is None else firmware(domain),
        "tpm": None if domain is None else tpm(domain),
        "files": files(),
        "bases": sorted({record["sha256"] for record in _identity.known(state)}),
    }


def platform_facts(root: ET.Element) -> dict[str, Any]:
    """Who the host is, its CPU, and what machines it can be for a guest, from the root of its capabilities."""
    cpu = root.find("host/cpu")
    address = root.find("host/cpu/maxphysaddr")
    topology = None if cpu is None else cpu.find("topology")
    guests = [(guest.findtext("os_type", ""), arch) for guest in root.findall("guest") for arch in guest.findall("arch")]
    triples = [(arch.get("name", ""), domain.get("type", ""), os_type) for os_type, arch in guests for domain in arch.findall("domain")]
    model = root.findtext("host/cpu/model")
    return {
        "machine_id": root.findtext("host/uuid") or _machine_id(),
        "arch": root.findtext("host/cpu/arch", ""),
        "cpu_model": model,
        "emulators": {arch.get("name", ""): arch.findtext("emulator", "") for _os_type, arch in guests},
        "virt_types": sorted({virt_type for _arch, virt_type, _os_type in triples}),
        "supported_instances": [list(triple) for triple in sorted(set(triples))],
        "machine_types": sorted({machine.text or "" for _os_type, arch in guests for machine in arch.findall("machine")}),
        "capabilities": {
            "cpu_info": {
                "arch": root.findtext("host/cpu/arch", ""),
                "model": model,
                "vendor": root.findtext("host/cpu/vendor"),
                "topology": {} if topology is None else {name: _definition.integer(value, f"topology {name}") for name, value in topology.attrib.items()},
                "maxphysaddr": {} if address is None else {"mode": address.get("mode"), "bits": _number(address, "bits")},
                "features": [feature.get("name", "") for feature in root.findall("host/cpu/feature")],
            }
        },
    }


def cgroup_version(root: str = "/sys/fs/cgroup") -> int | None:
    """2 for the unified hierarchy, 1 for controllers that are mounted one by one, None without cgroups."""
    if os.path.exists(os.path.join(root, "cgroup.controllers")):
        return 2
    return 1 if os.path.isdir(os.path.join(root, "cpu")) else None


def numa_cells(capabilities: ET.Element, free_pages: dict[int, dict[str, int]], own_cpus: Collection[int]) -> list[dict[str, Any]]:
    """Number, CPUs, those of them that a vCPU has to itself, memory and free pages by size in KiB of each NUMA cell."""
    return [
        {
            "id": _number(cell, "id"),
            "cpus": len(cell.findall("cpus/cpu")),
            "cpu_list": _cpu_set.listed(_number(cpu, "id") for cpu in cell.findall("cpus/cpu")),
            "pinned_cpus": sum(_number(cpu, "id") in own_cpus for cpu in cell.findall("cpus/cpu")),
            "pinned_cpu_list": _cpu_set.listed(number for cpu in cell.findall("cpus/cpu") if (number := _number(cpu, "id")) in own_cpus),
            "memory_mb": 0 if (memory := cell.find("memory")) is None else _memory_units.kib(memory) // 1024,
            "free_pages": free_pages.get(_number(cell, "id"), {}),
        }
        for cell in capabilities.findall("host/topology/cells/cell")
    ]


def page_sizes(capabilities: ET.Element) -> list[int]:
    """Sizes of memory pages in KiB that the host has."""
    return sorted({_number(pages, "size") for pages in capabilities.findall("host/topology/cells/cell/pages")})


def pci_devices(connection: Any) -> list[ET.Element]:
    """The PCI devices of the host as libvirt's node devices; empty where the driver knows none."""
    return [_definition.parse_document(device.XMLDesc(0)) for device in _connection.pci_devices(connection)]


def pci_pools(devices: Iterable[ET.Element], taken: Collection[_bindings.PciAddress]) -> list[dict[str, Any]]:
    """Devices set aside for guests (bound to vfio-pci) that no guest has, counted by kind and NUMA cell; ids are four hexadecimal digits."""
    pools: Counter[tuple[str, str, int | None]] = Counter()
    for device in devices:
        capability = device.find("capability[@type='pci']")
        if capability is not None and device.findtext("driver/name") == _PASSTHROUGH_DRIVER and _address_of(capability) not in taken:
            node = capability.find("numa")
            number = None if node is None else _number(node, "node")
            pools[_hex(capability.find("vendor")), _hex(capability.find("product")), number] += 1
    kinds = sorted(pools.items(), key=str)
    return [{"vendor_id": vendor, "product_id": product, "numa_node": node, "count": count} for (vendor, product, node), count in kinds]


def cpu(domain: ET.Element, features: list[str] | None) -> dict[str, Any]:
    """The CPU that guests can have: libvirt's name for the host's own, every feature of it, the models that QEMU can offer here, and those it only knows."""
    models = domain.findall("cpu/mode[@name='custom']/model")
    return {
        "virt_type": domain.findtext("domain"),
        "model": domain.findtext("cpu/mode[@name='host-model']/model"),
        "features": features,
        "models": [model.text or "" for model in models if model.get("usable") != "no"],
        "unusable_models": [model.text or "" for model in models if model.get("usable") == "no"],
    }


def firmware(domain: ET.Element) -> dict[str, Any]:
    """Loaders that libvirt knows, kinds that it can choose by itself, and whether one of them does secure boot."""
    system = domain.find("os")
    return {
        "kinds": _values(system, "firmware"),
        "loaders": [] if system is None else [value.text or "" for value in system.findall("loader/value")],
        "secure_boot": "yes" in _values(domain.find("os/loader"), "secure"),
    }


def tpm(domain: ET.Element) -> dict[str, list[str]]:
    """Models, backends and (newer libvirt) versions of TPMs for guests."""
    device = domain.find("devices/tpm[@supported='yes']")
    return {"models": _values(device, "model"), "backends": _values(device, "backendModel"), "versions": _values(device, "backendVersion")}


def files() -> dict[str, list[str]]:
    """Emulators and firmware, by directory; a directory that is not there has none."""
    patterns = {**_EMULATORS, **dict.fromkeys(_FIRMWARE_DIRECTORIES, _FIRMWARE)}
    return {directory: _listed(directory, pattern) for directory, pattern in patterns.items()}


def expanded_features(connection: Any, cpu_xml: str, virt_type: str | None, arch: str | None) -> list[str] | None:
    """Every feature that a `<cpu>` of a definition gives the guest; None where libvirt cannot tell."""
    expanded = _connection.expanded_cpu(connection, cpu_xml, virt_type, arch)
    return None if expanded is None else _required(_definition.parse_document(expanded))


def _features(connection: Any, domain: ET.Element) -> list[str] | None:
    model = domain.find("cpu/mode[@name='host-model'][@supported='yes']")
    if model is None:
        return None
    element = ET.Element("cpu")
    element.extend(child for child in model if child.tag != "maxphysaddr")
    return expanded_features(connection, ET.tostring(element, encoding="unicode"), domain.findtext("domain"), domain.findtext("arch"))


def _required(element: ET.Element) -> list[str]:
    return sorted(feature.get("name", "") for feature in element.findall("feature") if feature.get("policy", "require") in ("require", "force"))


def _free_pages(connection: Any, capabilities: ET.Element) -> dict[int, dict[str, int]]:
    cells = [_number(cell, "id") for cell in capabilities.findall("host/topology/cells/cell")]
    sizes = page_sizes(capabilities)
    if not cells or not sizes:
        return {}
    found = _binding.supported(lambda: connection.getFreePages(sizes, cells[0], cells[-1] - cells[0] + 1, 0), {})
    return {cell: {str(size): count for size, count in pages.items()} for cell, pages in found.items()}


def _machine_id() -> str:
    with open("/etc/machine-id", encoding="ascii") as stream:
        return stream.read().strip()


def _address() -> str | None:
    """The address that the host uses to reach others; nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return None
        return probe.getsockname()[0]


def _listed(directory: str, pattern: re.Pattern[str]) -> list[str]:
    try:
        return sorted(name for name in os.listdir(directory) if pattern.fullmatch(name))
    except FileNotFoundError:
        return []


def _number(element: ET.Element, name: str) -> int:
    return _definition.integer(element.get(name, "0"), f"{element.tag} {name}")


def _values(element: ET.Element | None, name: str) -> list[str]:
    return [] if element is None else [value.text or "" for value in element.findall(f"enum[@name='{name}']/value")]


def _address_of(capability: ET.Element) -> _bindings.PciAddress | None:
    return _bindings.pci_address({part.tag: part.text for part in capability})


def _hex(element: ET.Element | None) -> str:
    return "" if element is None else element.get("id", "").removeprefix("0x").lower()
