# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The NUMA cells of a host, out of its facts."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

from ansible_collections.kvmfleet.compute.plugins.module_utils._rules import cpu_set as _cpu_set
from ansible_collections.kvmfleet.compute.plugins.module_utils._rules.errors import KvmfleetError
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.host_state import HostState
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.validation import ValidationError, integer, mapping, number, sequence


class HostCell(NamedTuple):
    """One NUMA cell of a host.

    `cpu_list` as libvirt writes it, None where the host does not tell; `own_cpus` how many CPUs a guest can have to itself; `free_pages` by size
    in KiB.
    """

    id: int
    cpus: int
    cpu_list: str | None
    own_cpus: int
    memory_mb: float
    free_pages: Mapping[int, float]


def host_cells(host: HostState, given_up: Collection[int] = ()) -> Sequence[HostCell]:
    """In the order of their numbers; none where the host reports none.

    :param given_up: CPUs that the guest has to itself there now, and may have again.
    """
    path = f"{host.path}.numa_cells"
    cells = []
    for index, item in enumerate(sequence(path, host.facts.get("numa_cells"))):
        cell: Mapping[str, Any] = mapping(f"{path}[{index}]", item)
        pages = mapping(f"{path}[{index}].free_pages", cell.get("free_pages"))
        cells.append(
            HostCell(
                id=integer(f"{path}[{index}].id", cell.get("id", index), 0),
                cpus=integer(f"{path}[{index}].cpus", cell.get("cpus"), 0),
                cpu_list=_cpu_list(f"{path}[{index}].cpu_list", cell.get("cpu_list")),
                own_cpus=_own_cpus(host, f"{path}[{index}]", cell, given_up),
                memory_mb=number(f"{path}[{index}].memory_mb", cell.get("memory_mb"), 0),
                free_pages={
                    integer(f"{path}[{index}].free_pages", size, 1): number(f"{path}[{index}].free_pages.{size}", free, 0) for size, free in pages.items()
                },
            )
        )
    return cells


def _own_cpus(host: HostState, path: str, cell: Mapping[str, Any], given_up: Collection[int]) -> int:
    """Those that the host has set aside and nobody has; of a host that does not tell which, all that nobody has."""
    told = [
        _cpu_list(name, value)
        for name, value in (
            (f"{host.path}.cpu_dedicated_set", host.facts.get("cpu_dedicated_set")),
            (f"{path}.cpu_list", cell.get("cpu_list")),
            (f"{path}.pinned_cpu_list", cell.get("pinned_cpu_list")),
        )
    ]
    if None in told:
        cpus, pinned = integer(f"{path}.cpus", cell.get("cpus"), 0), integer(f"{path}.pinned_cpus", cell.get("pinned_cpus") or 0, 0)
        return cpus - pinned
    dedicated, cpus, pinned = (_cpu_set.parse(text or "", path) for text in told)
    return len(dedicated & cpus - (pinned - set(given_up)))


def _cpu_list(path: str, value: object) -> str | None:
    if value is None:
        return None
    try:
        return _cpu_set.listed(_cpu_set.parse(str(value), path))
    except KvmfleetError:
        raise ValidationError(path, value, "a list of CPUs such as 0-3,6") from None
