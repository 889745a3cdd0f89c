# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What one host calls otherwise than another: bridges, libvirt networks, storage pools, emulators, firmware files.

`kvmfleet_mappings` of a host gives such things names of the fleet. What bears a name at the source is at the destination what bears that name there;
what has none is called the same everywhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from ansible_collections.kvmfleet.compute.plugins.module_utils._rules.domain_facts import DomainFacts
from ansible_collections.kvmfleet.compute.plugins.module_utils._rules.host_facts import HostFacts

Names = Mapping[str, Mapping[str, str]]
SAME: Names = MappingProxyType({})
"""The translation where all is called the same."""


def named(domain: DomainFacts, source: HostFacts) -> Names:
    """What the guest uses of its host -> the name of the fleet, by kind; kinds of which nothing has a name are left out.

    :param source: facts of the guest's host.
    """
    found = {}
    for kind, used in _used(domain).items():
        names = {local: name for name, local in _mappings(source, kind).items()}
        found[kind] = {local: names[local] for local in used if local in names}
    return {kind: names for kind, names in found.items() if names}


def translated(names: Names, destination: HostFacts) -> Names:
    """What the guest uses of its host -> what it is at the destination, by kind; only what differs.

    :param names: what `named` returned; :param destination: facts of a host that passed the filters, so that it has all of them.
    """
    found = {}
    for kind, locals_ in names.items():
        there = _mappings(destination, kind)
        found[kind] = {local: there[name] for local, name in locals_.items() if there.get(name, local) != local}
    return {kind: locals_ for kind, locals_ in found.items() if locals_}


def of(translation: Mapping[str, Mapping[str, str]], kind: str, local: str | None) -> str | None:
    """One of them at the destination."""
    return None if local is None else translation.get(kind, {}).get(local, local)


def _used(domain: DomainFacts) -> dict[str, set[str]]:
    nics, firmware = domain["interfaces"], domain["firmware"]
    return {
        "bridges": _texts(nic["source"] for nic in nics if nic["type"] == "bridge"),
        "networks": _texts(nic["source"] for nic in nics if nic["type"] == "network"),
        "pools": _texts(disk.get("pool") for disk in domain["disks"]),
        "emulators": _texts([domain["emulator"]]),
        "firmware": _texts([firmware.get("loader"), firmware.get("nvram_template")]),
    }


def _texts(values: Iterable[str | None]) -> set[str]:
    return {value for value in values if value}


def _mappings(host: HostFacts, kind: str) -> Mapping[str, str]:
    return (host.get("mappings") or {}).get(kind) or {}
