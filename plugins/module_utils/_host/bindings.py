# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the guests of a host have to themselves: CPUs that a vCPU is bound to, PCI devices, and all of which a host can have one (`_rules.exclusive`)."""

from __future__ import annotations

import contextlib
import glob
import os
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .._domain import definition as _definition, origin as _origin
from .._libvirt import definitions as _definitions, domains as _domains
from .._rules import exclusive as _exclusive
from .._rules.errors import KvmfleetError

# Of those that run, as they run; of all that are defined, as they start next.
_STORED = ("/run/libvirt/qemu", "/etc/libvirt/qemu")
_PCI_ADDRESS = ("domain", "bus", "slot", "function")
PciAddress = tuple[int, ...]


@dataclass(frozen=True)
class Bindings:
    """Of all guests together, stopped ones included: they want them back when they start.

    :param cpus, pci: of a guest that runs, as it runs; :param held: things of which the host can have one, those of its next start too, with its name.
    :param origins: by UUID, where a drain took the guest from, of those that one took from anywhere.
    """

    cpus: frozenset[int]
    pci: frozenset[PciAddress]
    held: _exclusive.Held
    origins: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    @property
    def macs(self) -> frozenset[str]:
        """MAC addresses."""
        return frozenset(self.held.get(_exclusive.MAC, ()))


def of_guests(connection: Any, directories: Sequence[str] = _STORED, without: str | None = None) -> Bindings:
    """Those of every guest but the one with the UUID `without`.

    No call of libvirt lists any of this, and hundreds of guests must not cost a round trip each: their definitions are read from the files
    in which libvirt keeps them, of which the first directory that has one comes first; a guest that is in none of them is asked about.
    """
    stored: dict[str | None, list[ET.Element]] = {}
    for directory in directories:
        for root in _stored(directory):
            stored.setdefault(root.findtext("uuid"), []).append(root)
    return of_definitions(found for found in _of_guests(connection, stored) if found[0].findtext("uuid") != without)


def of_definitions(guests: Iterable[Sequence[ET.Element]]) -> Bindings:
    """Those of the guests with these definitions, each as it runs, if it does, and as it starts next."""
    cpus: set[int] = set()
    pci: set[PciAddress] = set()
    held: dict[str, dict[str, str]] = {}
    origins: dict[str, dict[str, str]] = {}
    for definitions in guests:
        cpus.update(own_cpus(definitions[0]))
        pci.update(_passed_through(definitions[0]))
        origin = next(filter(None, map(_origin.read, definitions)), None)
        if origin is not None:
            origins[definitions[0].findtext("uuid") or ""] = origin
        for root in definitions:
            _exclusive.hold(held, _exclusive.things(root, lasting=False), root.findtext("name") or "")
    return Bindings(frozenset(cpus), frozenset(pci), held, origins)


def pci_address(numbers: dict[str, str | None]) -> PciAddress | None:
    """An address by the names of its parts, decimal or (with 0x) hexadecimal; None where one is missing, or is no number."""
    parts = [part for part in map(numbers.get, _PCI_ADDRESS) if part is not None]
    try:
        return tuple(int(part, 0) for part in parts) if len(parts) == len(_PCI_ADDRESS) else None
    except ValueError:
        return None


def _of_guests(connection: Any, stored: Mapping[str | None, Sequence[ET.Element]]) -> Iterator[Sequence[ET.Element]]:
    for domain in _domains.all_domains(connection):
        found = stored.get(domain.UUIDString()) or [_definition.parse(definition) for definition in _definitions.definitions_if_there(domain)]
        if found:
            yield found


def _stored(directory: str) -> Iterator[ET.Element]:
    """The definitions that libvirt keeps there; a file that cannot be read, or is being written, is left to libvirt."""
    for path in glob.glob(os.path.join(glob.escape(directory), "*.xml")):
        with contextlib.suppress(OSError, ValueError, KvmfleetError):
            with open(path, encoding="utf-8") as stream:
                root = _definition.parse_document(stream.read())
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
