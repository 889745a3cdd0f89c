# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""CPUs and NUMA nodes of a host that a definition names: libvirt does not start a guest where they are not."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from . import cpu_set as _cpu_set

_CPUS = ("vcpu", "cputune/iothreadpin")
_PINS = ("cputune/vcpupin", "cputune/emulatorpin")
_NODES = ("numatune/memory", "numatune/memnode")


def needed(root: ET.Element, *, pins: bool = True) -> dict[str, list[int]]:
    """The numbers of the `cpus` and `nodes` that the definition names.

    :param pins: False where vCPUs and emulator are bound anew at each host.
    """
    return {"cpus": _named(root, (*_CPUS, *(_PINS if pins else ())), "cpuset"), "nodes": _named(root, _NODES, "nodeset")}


def missing(cells: Sequence[Mapping[str, Any]], need: Mapping[str, Iterable[int]]) -> str | None:
    """What of it a host has not, in words; None if it has all, or does not tell.

    :param cells: `numa_cells` of the host's facts; :param need: as `needed` returns it.
    """
    if not cells or any(cell.get("cpu_list") is None for cell in cells):
        return None
    cpus = {number for cell in cells for number in _cpu_set.parse(cell["cpu_list"], "cpu_list")}
    have = {"cpus": ("CPU", cpus), "nodes": ("NUMA node", {cell.get("id") for cell in cells})}
    lacks = [f"{what} {_cpu_set.listed(absent)} (has {_cpu_set.listed(there)})" for key, (what, there) in have.items() if (absent := {*need[key]} - there)]
    return " and ".join(lacks) or None


def _named(root: ET.Element, places: Iterable[str], attribute: str) -> list[int]:
    texts = [(element.tag, element.get(attribute)) for place in places for element in root.findall(place)]
    return sorted({number for tag, text in texts if text for number in _cpu_set.parse(text, f"{tag} {attribute}")})
