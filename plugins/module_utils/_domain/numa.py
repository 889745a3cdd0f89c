# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The NUMA cells that a guest sees: vCPUs and memory spread over them.

Cells of the definition's own are only spread anew, evenly as Nova does without `hw:numa_cpus`, if they were even. Cells that a flavor asked
for are made, and go with the first flavor that does not. Our metadata tells which of both they are.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from typing import Any

from .._rules import cpu_set as _cpu_set, memory_units as _memory_units
from .._rules.errors import KvmfleetError
from . import tree as _tree, vcpus as _vcpus
from .definition import integer, own_record

_MIB = 1024
_CREATED, _SPREAD = "created", "spread"
_BEFORE_NUMA = ("arch", "model", "vendor", "microcode", "signature", "topology", "cache", "maxphysaddr", "feature")

Layout = Sequence[tuple[set[int], int]]
"""The vCPUs and the KiB of each cell."""


def set_cells(root: ET.Element, vcpus: int, kib: int, wanted: Mapping[str, Any] | None) -> None:
    """Spread the vCPUs and the memory over the cells.

    :param kib: memory without memory devices; :param wanted: `nodes`, and `cells` (`cpus`, `memory` in MiB) or None for an even split.
    :raises KvmfleetError: `unsupported_numa`, with the numbers.
    """
    cells, kept = root.findall("cpu/numa/cell"), own_record(root, "numa")
    origin = None if kept is None else kept.get("cells")
    if wanted is None and origin == _CREATED:
        _remove(root)
        _tree.record(root, "numa", None)
    elif wanted is None:
        if len(cells) > 1 and origin is None:
            _require_even(cells)
        _write(cells, _even(len(cells), vcpus, kib) if cells else ())
        _tree.record(root, "numa", None)
    else:
        made = origin == _CREATED or not cells
        _write(_made(root, wanted["nodes"]) if made else _own(cells, wanted["nodes"]), _layout(wanted, vcpus, kib))
        _tree.record(root, "numa", {"cells": _CREATED if made else _SPREAD})


def cell_kib(cell: ET.Element) -> int:
    """The memory of a `<cell>`."""
    amount = ET.Element("cell memory", {"unit": cell.get("unit", "KiB")})
    amount.text = cell.get("memory")
    return _memory_units.kib(amount)


def _layout(wanted: Mapping[str, Any], vcpus: int, kib: int) -> Layout:
    if wanted["cells"] is None:
        return _even(wanted["nodes"], vcpus, kib)
    total = sum(cell["memory"] for cell in wanted["cells"]) * _MIB
    if total != kib:
        raise KvmfleetError(
            "unsupported_numa",
            f"hw:numa_mem gives the NUMA cells {total // _MIB} MiB, but {kib / _MIB:g} MiB are theirs: the rest is in memory devices (DIMMs).",
            need=total // _MIB,
            have=kib // _MIB,
        )
    return [(_cpu_set.parse(cell["cpus"], "hw:numa_cpus"), cell["memory"] * _MIB) for cell in wanted["cells"]]


def _even(count: int, vcpus: int, kib: int) -> Layout:
    """Neighbouring vCPUs and equal memory, in whole MiB, for each cell."""
    if count > 1 and (vcpus % count or kib % (count * _MIB)):
        raise KvmfleetError(
            "unsupported_numa",
            f"{vcpus} vCPUs and {kib / _MIB:g} MiB cannot be divided evenly among {count} NUMA cells: use a flavor that can, or one with hw:numa_nodes, "
            "hw:numa_cpus.N and hw:numa_mem.N.",
            need=count,
            have=[vcpus, kib // _MIB],
        )
    each = vcpus // count
    return [(set(range(cell * each, cell * each + each)), kib // count) for cell in range(count)]


def _require_even(cells: Sequence[ET.Element]) -> None:
    have = [(_cpu_set.parse(cell.get("cpus", ""), "cell cpus"), cell_kib(cell)) for cell in cells]
    total = sum(len(cpus) for cpus, _kib in have)
    each = total // len(cells)
    if have != [(set(range(cell * each, cell * each + each)), have[0][1]) for cell in range(len(cells))]:
        shown = "; ".join(f"vCPUs {_cpu_set.listed(cpus) or 'none'} with {kib / _MIB:g} MiB" for cpus, kib in have)
        raise KvmfleetError(
            "unsupported_numa",
            f"The guest has {len(cells)} NUMA cells that differ ({shown}); how another size spreads over them is only known from a flavor with "
            "hw:numa_nodes, hw:numa_cpus.N and hw:numa_mem.N.",
            cells=len(cells),
        )


def _own(cells: Sequence[ET.Element], count: int) -> Sequence[ET.Element]:
    if len(cells) != count:
        raise KvmfleetError(
            "unsupported_numa",
            f"hw:numa_nodes asks for {count} NUMA cells, the definition has {len(cells)} of its own: remove them, or use a flavor with as many.",
            need=count,
            have=len(cells),
        )
    return cells


def _made(root: ET.Element, count: int) -> Sequence[ET.Element]:
    """So many cells that a flavor asked for."""
    bound = [*root.findall("numatune/memnode"), *root.findall("devices/memory/target/node")]
    last = max((integer(node.get("cellid") or node.text, node.tag) for node in bound), default=0)
    if last >= count:
        raise KvmfleetError("unsupported_numa", f"The definition binds NUMA cell {last}; the flavor has {count} cells.", need=last + 1, have=count)
    _remove(root)
    numa = ET.Element("numa")
    _tree.insert_after(_vcpus.cpu_element(root), numa, _BEFORE_NUMA)
    return [ET.SubElement(numa, "cell", {"id": str(number)}) for number in range(count)]


def _write(cells: Sequence[ET.Element], layout: Layout) -> None:
    for cell, (cpus, kib) in zip(cells, layout):
        if cpus != _cpu_set.parse(cell.get("cpus", ""), "cell cpus"):
            cell.set("cpus", _cpu_set.listed(cpus))
        cell.set("memory", str(kib))
        cell.set("unit", "KiB")


def _remove(root: ET.Element) -> None:
    cpu, numa = root.find("cpu"), root.find("cpu/numa")
    if numa is not None:
        _tree.remove(cpu, numa)
        _vcpus.drop_empty_cpu(root)
