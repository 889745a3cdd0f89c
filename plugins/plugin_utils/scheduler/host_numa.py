# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The NUMA cells of a host, out of its facts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.host_state import HostState
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.validation import integer, mapping, number, sequence


class HostCell(NamedTuple):
    """One NUMA cell of a host; `free_pages` by size in KiB."""

    number: int
    cpus: int
    pinned: int
    memory_mb: float
    free_pages: Mapping[int, float]


def host_cells(host: HostState) -> Sequence[HostCell]:
    """In the order of their numbers; none where the host reports none."""
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
