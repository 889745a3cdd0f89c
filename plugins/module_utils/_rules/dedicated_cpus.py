# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Choose CPUs of a host that a guest is to have to itself (`hw:cpu_policy=dedicated`).

The rule is Nova's (`_numa_fit_instance_cell`): each NUMA cell of the guest gets CPUs of one NUMA node of the host, different cells those of
different nodes. Nova looks at thread siblings besides, which `hw:cpu_thread_policy` is about.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from . import cpu_set as _cpu_set, matching as _matching


def free(cells: Sequence[Mapping[str, Any]], dedicated: Collection[int], taken: Collection[int]) -> dict[int, list[int]]:
    """By number of the NUMA node those of its CPUs that are set aside for guests of their own and that no guest has.

    :param cells: `numa_cells` of the host's facts.
    """
    return {cell["id"]: sorted((_cpu_set.parse(cell["cpu_list"], "cpu_list") & set(dedicated)) - set(taken)) for cell in cells}


def choose(guest: Sequence[Sequence[int]], nodes: Mapping[int, Sequence[int]]) -> list[int] | None:
    """The CPU of each vCPU, the lowest ones of the node with the fewest that are enough; None if there is no way.

    :param guest: the vCPUs of each of the guest's NUMA cells; :param nodes: as `free` returns them.
    """
    order = sorted(nodes, key=lambda node: (len(nodes[node]), node))
    seated = _matching.seats(len(guest), order, lambda cell, node: len(nodes[node]) >= len(guest[cell]))
    if seated is None:
        return None
    pins = {vcpu: cpu for node, cell in seated.items() for vcpu, cpu in zip(sorted(guest[cell]), nodes[node])}
    return [pins[vcpu] for vcpu in sorted(pins)]


def described(guest: Sequence[Sequence[int]], nodes: Mapping[int, Sequence[int]], dedicated: Collection[int]) -> str:
    """Why there is no way, in words."""
    need = " + ".join(str(len(cell)) for cell in guest)
    if not dedicated:
        return f"{need} CPUs of its own are needed, and this host sets none aside (kvmfleet_cpu_dedicated_set)"
    have = ", ".join(f"{_cpu_set.listed(cpus) or 'none'} on NUMA node {node}" for node, cpus in sorted(nodes.items()))
    return f"{need} CPUs of its own are needed, each number on a NUMA node of its own; of {_cpu_set.listed(dedicated)} are free: {have}"
