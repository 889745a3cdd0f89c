# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""NUMA cells, huge pages and CPUs of its own for a guest."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.context import Context
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.filters.base import Filter, Rejection
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.host_state import HostState
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.validation import ValidationError, integer, mapping, number, sequence

_PAGE_UNITS = {"": 1, "KB": 1, "MB": 1024, "GB": 1024**2}
_SMALL_PAGE_KIB = 4
_MOST_CELLS = 64
_HIGHEST_CPU = 8191


class GuestCell(NamedTuple):
    """One NUMA cell that the guest is to see."""

    vcpus: int
    memory_mb: int


class HostCell(NamedTuple):
    """One NUMA cell of a host; `free_pages` by size in KiB."""

    number: int
    cpus: int
    pinned: int
    memory_mb: float
    free_pages: Mapping[int, float]


class NUMATopologyFilter(Filter):
    """Each NUMA cell of the guest finds a cell of its own on the host.

    The extra specs `hw:numa_nodes`, `hw:numa_cpus.N`, `hw:numa_mem.N`, `hw:mem_page_size` and `hw:cpu_policy` make the cells. Their
    CPUs and memory must be there, their huge pages free, and with `hw:cpu_policy: dedicated` their CPUs not pinned to others.
    A host that reports no `numa_cells` is refused.
    """

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        specs = context.request.flavor.extra_specs
        self.dedicated = specs.get("hw:cpu_policy") == "dedicated"
        self.page_kib = _page_size(specs.get("hw:mem_page_size"))
        asked = self.dedicated or self.page_kib is not None or any(key.startswith("hw:numa_") for key in specs)
        self.cells = _guest_cells(context) if asked else ()

    def applies(self) -> bool:
        return bool(self.cells)

    def rejection(self, host: HostState) -> Rejection | None:
        offered = _host_cells(host)
        need = " + ".join(f"{cell.vcpus} CPUs with {cell.memory_mb} MB" for cell in self.cells)
        if not offered:
            return self.reject("numa", f"needs NUMA cells of {need}, the host reports none", need)
        if self._all_seated(offered):
            return None
        have = ", ".join(self._shown(cell) for cell in offered)
        dedicated = " and CPUs of its own" if self.dedicated else ""
        pages = "" if self.page_kib is None else " in huge pages" if self.page_kib == math.inf else f" in pages of {self.page_kib} KiB"
        return self.reject("numa", f"needs NUMA cells of {need}{pages}{dedicated}; the host has {have}", need, have)

    def _all_seated(self, offered: Sequence[HostCell]) -> bool:
        """Whether there is a matching of guest cells and host cells: a cell that was seated moves on where it can."""
        seated: dict[int, GuestCell] = {}

        def seat(guest: GuestCell, tried: set[int]) -> bool:
            for cell in offered:
                if cell.number not in tried and self._fits(guest, cell):
                    tried.add(cell.number)
                    if cell.number not in seated or seat(seated[cell.number], tried):
                        seated[cell.number] = guest
                        return True
            return False

        return all(seat(guest, set()) for guest in self.cells)

    def _fits(self, guest: GuestCell, host: HostCell) -> bool:
        if guest.vcpus > host.cpus - (host.pinned if self.dedicated else 0):
            return False
        return guest.memory_mb <= (host.memory_mb if self.page_kib is None else self._in_pages(host, guest.memory_mb))

    def _in_pages(self, host: HostCell, need_mb: float = math.inf) -> float:
        """MiB in free pages of one size that is wanted and that the need is a multiple of."""
        huge = self.page_kib == math.inf
        sizes = [size for size in host.free_pages if (size > _SMALL_PAGE_KIB if huge else size == self.page_kib)]
        return max((host.free_pages[size] * size / 1024 for size in sizes if need_mb == math.inf or need_mb * 1024 % size == 0), default=0)

    def _shown(self, cell: HostCell) -> str:
        cpus = cell.cpus - (cell.pinned if self.dedicated else 0)
        memory = cell.memory_mb if self.page_kib is None else self._in_pages(cell)
        return f"cell {cell.number}: {cpus} CPUs with {memory:g} MB"


def _page_size(text: str | None) -> float | None:
    """KiB; infinity stands for any huge page, None for no wish."""
    if text is None or text in ("any", "small"):
        return None
    if text == "large":
        return math.inf
    digits = text.rstrip("KMGBkmgib")
    unit = text[len(digits) :].upper().replace("I", "")
    if not digits.isdigit() or unit not in _PAGE_UNITS:
        raise ValidationError("request.flavor.extra_specs.hw:mem_page_size", text, "small, large, any or a size such as 2MB")
    return int(digits) * _PAGE_UNITS[unit]


def _guest_cells(context: Context) -> tuple[GuestCell, ...]:
    flavor, specs = context.request.flavor, context.request.flavor.extra_specs
    path = "request.flavor.extra_specs.hw:numa_nodes"
    count = integer(path, specs.get("hw:numa_nodes", 1), 1)
    if count > _MOST_CELLS:
        raise ValidationError(path, count, f"at most {_MOST_CELLS} cells")
    named = [index for index in range(count) if f"hw:numa_cpus.{index}" in specs or f"hw:numa_mem.{index}" in specs]
    if not named:
        if flavor.vcpus % count or flavor.ram % count:
            raise ValidationError(
                path, count, f"cells that {flavor.vcpus} vCPUs and {flavor.ram} MB can be divided into evenly, or hw:numa_cpus.N and hw:numa_mem.N"
            )
        return (GuestCell(int(flavor.vcpus // count), int(flavor.ram // count)),) * count
    cells = tuple(GuestCell(_cpu_count(index, specs), _cell_memory(index, specs)) for index in range(count))
    if (sum(cell.vcpus for cell in cells), sum(cell.memory_mb for cell in cells)) != (flavor.vcpus, flavor.ram):
        raise ValidationError(path, count, f"cells that add up to the {flavor.vcpus} vCPUs and {flavor.ram} MB of the flavor")
    return cells


def _cell_memory(index: int, specs: Mapping[str, str]) -> int:
    return integer(f"request.flavor.extra_specs.hw:numa_mem.{index}", specs.get(f"hw:numa_mem.{index}"), 1)


def _cpu_count(index: int, specs: Mapping[str, str]) -> int:
    """How many CPUs a set such as `0-3,^2,6` names."""
    path = f"request.flavor.extra_specs.hw:numa_cpus.{index}"
    text, chosen, dropped = specs.get(f"hw:numa_cpus.{index}", ""), set(), set()
    for part in text.split(","):
        first, _dash, last = part.strip().removeprefix("^").partition("-")
        low, high = integer(path, first, 0), integer(path, last or first, 0)
        if high > _HIGHEST_CPU:
            raise ValidationError(path, text, f"CPUs up to {_HIGHEST_CPU}")
        numbers = range(low, high + 1)
        (dropped if part.strip().startswith("^") else chosen).update(numbers)
    return len(chosen - dropped)


def _host_cells(host: HostState) -> Sequence[HostCell]:
    path = f"{host.path}.numa_cells"
    cells = []
    for index, item in enumerate(sequence(path, host.facts.get("numa_cells"))):
        cell: Mapping[str, Any] = mapping(f"{path}[{index}]", item)
        pages = mapping(f"{path}[{index}].free_pages", cell.get("free_pages"))
        cells.append(
            HostCell(
                number=index,
                cpus=integer(f"{path}[{index}].cpus", cell.get("cpus"), 0),
                pinned=integer(f"{path}[{index}].pinned_cpus", cell.get("pinned_cpus") or 0, 0),
                memory_mb=number(f"{path}[{index}].memory_mb", cell.get("memory_mb"), 0),
                free_pages={
                    integer(f"{path}[{index}].free_pages", size, 1): number(f"{path}[{index}].free_pages.{size}", free, 0) for size, free in pages.items()
                },
            )
        )
    return cells
