# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the guests of a host have to themselves: MAC addresses, CPUs that a vCPU is bound to, PCI devices."""

from __future__ import annotations

import contextlib
import glob
import os
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from . import _domain_xml, _libvirt
from ._errors import KvmfleetError

# Of those that run, as they run; of all that are defined.
_STORED = ("/run/libvirt/qemu", "/etc/libvirt/qemu")
_PCI_ADDRESS = ("domain", "bus", "slot", "function")
PciAddress = tuple[int, ...]


@dataclass(frozen=True)
class Bindings:
    """Of all guests together, stopped ones included: they want them back when they start."""

    macs: frozenset[str]
    cpus: frozenset[int]
    pci: frozenset[PciAddress]


def of_guests(connection: Any, directories: Sequence[str] = _STORED, without: str | None = None) -> Bindings:
    """Those of every guest but the one with the UUID `without`.

    No call of libvirt lists any of this, and hundreds of guests must not cost a round trip each: their definitions are read from the files
    in which libvirt keeps them, the first directory that has one counts; a guest that is in none of them is asked about.
    """
    stored = {root.findtext("uuid"): root for directory in reversed(directories) for root in _stored(directory)}
    return of_definitions(root for root in _definitions(connection, stored) if root.findtext("uuid") != without)


def of_definitions(definitions: Iterable[ET.Element]) -> Bindings:
    """Those of the guests with these definitions."""
    macs: set[str] = set()
    cpus: set[int] = set()
    pci: set[PciAddress] = set()
    for root in definitions:
        macs.update(nic.mac for nic in _domain_xml.interfaces(root) if nic.mac)
        cpus.update(own_cpus(root))
        pci.update(_passed_through(root))
    return Bindings(frozenset(macs), frozenset(cpus), frozenset(pci))


def pci_address(numbers: dict[str, str | None]) -> PciAddress | None:
    """An address by the names of its parts, decimal or (with 0x) hexadecimal; None where one is missing, or is no number."""
    parts = [part for part in map(numbers.get, _PCI_ADDRESS) if part is not None]
    try:
        return tuple(int(part, 0) for part in parts) if len(parts) == len(_PCI_ADDRESS) else None
    except ValueError:
        return None


def _definitions(connection: Any, stored: Mapping[str | None, ET.Element]) -> Iterator[ET.Element]:
    for domain in _libvirt.all_domains(connection):
        root = stored.get(domain.UUIDString())
        if root is not None:
            yield root
        elif (definition := _libvirt.live_xml_if_there(domain)) is not None:
            yield _domain_xml.parse(definition)


def _stored(directory: str) -> Iterator[ET.Element]:
    """The definitions that libvirt keeps there; a file that cannot be read, or is being written, is left to libvirt."""
    for path in glob.glob(os.path.join(glob.escape(directory), "*.xml")):
        with contextlib.suppress(OSError, ValueError, KvmfleetError):
            with open(path, encoding="utf-8") as stream:
                root = _domain_xml.parse_document(stream.read())
            definition = root if root.tag == "domain" else root.find("domain")
            if definition is not None:
                yield definition


def own_cpus(root: ET.Element) -> Iterator[int]:
    """CPUs that one vCPU is bound to. A set of several CPUs only says where a vCPU may float, and others float there too."""
    for element in (*root.findall("vcpu"), *root.findall("cputune/vcpupin")):
        cpus = element.get("cpuset", "")
        if cpus.isdecimal():
            yield int(cpus)


def _passed_through(root: ET.Element) -> Iterator[PciAddress]:
    """The sources of host devices, of network interfaces and of NVMe disks alike."""
    for element in (*root.findall("devices/*/source/address"), *root.findall("devices/interface/actual/source/address")):
        address = pci_address(dict(element.attrib))
        if address is not None:
            yield address
