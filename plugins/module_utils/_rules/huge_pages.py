# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Huge pages that a guest's memory is in: what it needs of them, and what a host has."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from typing import Any

from . import cpu_set as _cpu_set, memory_units as _memory_units
from .errors import KvmfleetError

_SMALL_KIB = 4


def needed(root: ET.Element) -> dict[str, Any] | None:
    """Huge pages for all of the guest's memory, None if it needs none.

    :returns: `page_kib` (None for the host's default), `memory_mb`, and `nodes`, the NUMA nodes of the host that they must be on (None for any).
    """
    backing, memory = root.find("memoryBacking/hugepages"), root.find("memory")
    if backing is None or memory is None:
        return None
    nodesets = [element.get("nodeset") for element in (*root.findall("numatune/memory"), *root.findall("numatune/memnode"))]
    nodes = {node for nodeset in nodesets if nodeset for node in _cpu_set.parse(nodeset, "numatune nodeset")}
    return {"page_kib": page_kib(root), "memory_mb": _memory_units.kib(memory) // 1024, "nodes": sorted(nodes) or None}


def page_kib(root: ET.Element) -> int | None:
    """The size that the definition names for all of the guest's memory; None if it names none."""
    page = next((page for page in root.findall("memoryBacking/hugepages/page") if not page.get("nodeset")), None)
    if page is None:
        return None
    size = ET.Element("page size", {"unit": page.get("unit", "KiB")})
    size.text = page.get("size")
    return _memory_units.kib(size)


def require_whole_pages(root: ET.Element, amounts_kib: Sequence[int]) -> None:
    """Each amount (the memory of a NUMA cell, or all) fills whole pages; KvmfleetError `unsupported_hugepages` with the numbers otherwise."""
    size = page_kib(root)
    for amount in amounts_kib if size else ():
        if amount % size:
            raise KvmfleetError(
                "unsupported_hugepages", f"{amount / 1024:g} MiB of memory are not a whole number of huge pages of {size} KiB.", need=size, have=amount
            )


def described(need: Mapping[str, Any]) -> str:
    """The need in words."""
    size = "" if need["page_kib"] is None else f" of {need['page_kib']} KiB"
    nodes = "" if need["nodes"] is None else f" on NUMA node {_cpu_set.listed(need['nodes'])}"
    return f"needs {need['memory_mb']} MB in huge pages{size}{nodes}"


def free_mb(cells: Sequence[Mapping[str, Any]], need: Mapping[str, Any]) -> float:
    """MiB of a host in free pages of one size that would do.

    :param cells: `numa_cells` of the host's facts; :param need: as `needed` returns it.
    """
    return max(_free_by_size(cells, need).values(), default=0)


def taken(cells: Sequence[Mapping[str, Any]], need: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The same cells when the guest has its pages, of the size of which most are free."""
    free = _free_by_size(cells, need)
    size = max(free, key=lambda each: (free[each], each), default=0)
    left = -(-need["memory_mb"] * 1024 // size) if size else 0
    found = []
    for cell in cells:
        pages = {int(each): int(count) for each, count in (cell.get("free_pages") or {}).items()}
        if left and size in pages and _is_meant(cell, need):
            here = min(left, pages[size])
            left -= here
            pages[size] -= here
        found.append({**cell, "free_pages": pages})
    return found


def _free_by_size(cells: Sequence[Mapping[str, Any]], need: Mapping[str, Any]) -> dict[int, float]:
    totals: dict[int, float] = {}
    for cell in filter(lambda cell: _is_meant(cell, need), cells):
        for size, count in (cell.get("free_pages") or {}).items():
            totals[int(size)] = totals.get(int(size), 0) + int(size) * int(count) / 1024
    wanted = need["page_kib"]
    return {size: free for size, free in totals.items() if (size > _SMALL_KIB if wanted is None else size == wanted)}


def _is_meant(cell: Mapping[str, Any], need: Mapping[str, Any]) -> bool:
    return need["nodes"] is None or cell.get("id") in need["nodes"]
