# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""NUMA cells, huge pages and CPUs of its own for a guest."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ansible_collections.kvmfleet.compute.plugins.module_utils._rules import matching as _matching
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.context import Context
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.filters.base import Filter, Rejection
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.guest_numa import GuestCell, guest_cells, page_kib
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.host_numa import HostCell, host_cells
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.host_state import HostState

_SMALL_PAGE_KIB = 4


class NUMATopologyFilter(Filter):
    """Each NUMA cell of the guest finds a cell of its own on the host.

    The extra specs `hw:numa_nodes`, `hw:numa_cpus.N`, `hw:numa_mem.N`, `hw:mem_page_size` and `hw:cpu_policy` make the cells. Their
    CPUs and memory must be there, their huge pages free, and with `hw:cpu_policy: dedicated` as many CPUs of the host's `cpu_dedicated_set`
    that no other guest has. A host whose facts do not tell that set offers all CPUs that are not pinned.
    A host that reports no `numa_cells` is refused.
    """

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        flavor, path = context.request.flavor, "request.flavor.extra_specs"
        specs = flavor.extra_specs
        self.dedicated = specs.get("hw:cpu_policy") == "dedicated"
        self.page_kib = page_kib(path, specs)
        asked = self.dedicated or self.page_kib is not None or any(key.startswith("hw:numa_") for key in specs)
        self.cells = guest_cells(path, specs, flavor.vcpus, flavor.ram) if asked else ()

    def applies(self) -> bool:
        return bool(self.cells)

    def rejection(self, host: HostState) -> Rejection | None:
        request = self.context.request
        offered = host_cells(host, request.requirements.pinned_cpus if host.name == request.instance.host else ())
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
        def fits(guest: int, number: int) -> bool:
            return any(cell.id == number and self._fits(self.cells[guest], cell) for cell in offered)

        return _matching.seats(len(self.cells), [cell.id for cell in offered], fits) is not None

    def _fits(self, guest: GuestCell, host: HostCell) -> bool:
        if guest.vcpus > (host.own_cpus if self.dedicated else host.cpus):
            return False
        return guest.memory_mb <= (host.memory_mb if self.page_kib is None else self._in_pages(host, guest.memory_mb))

    def _in_pages(self, host: HostCell, need_mb: float = math.inf) -> float:
        """MiB in free pages of one size that is wanted and that the need is a multiple of."""
        huge = self.page_kib == math.inf
        sizes = [size for size in host.free_pages if (size > _SMALL_PAGE_KIB if huge else size == self.page_kib)]
        return max((host.free_pages[size] * size / 1024 for size in sizes if need_mb == math.inf or need_mb * 1024 % size == 0), default=0)

    def _shown(self, cell: HostCell) -> str:
        cpus = cell.own_cpus if self.dedicated else cell.cpus
        memory = cell.memory_mb if self.page_kib is None else self._in_pages(cell)
        return f"cell {cell.id}: {cpus} CPUs with {memory:g} MB"
