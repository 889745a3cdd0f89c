# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The NUMA cells and the pages that extra specs of a flavor ask for: `hw:numa_nodes`, `hw:numa_cpus.N`, `hw:numa_mem.N`, `hw:mem_page_size`."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import NamedTuple

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.validation import ValidationError, integer

_PAGE_UNITS = {"": 1, "KB": 1, "MB": 1024, "GB": 1024**2}
_MOST_CELLS = 64
_HIGHEST_CPU = 8191
_NUMBERED = re.compile(r"hw:numa_(?:cpus|mem)\.(.*)", re.DOTALL)


class GuestCell(NamedTuple):
    """One NUMA cell that the guest is to see; `cpus` are its vCPUs where the flavor numbers them."""

    vcpus: int
    memory_mb: int
    cpus: frozenset[int] | None


def page_kib(path: str, specs: Mapping[str, str]) -> float | None:
    """The size of pages in KiB; infinity stands for any huge page, None for no wish.

    :param path: of the extra specs, for errors.
    """
    text = specs.get("hw:mem_page_size")
    if text is None or text in ("any", "small"):
        return None
    if text == "large":
        return math.inf
    digits = text.rstrip("KMGBkmgib")
    unit = text[len(digits) :].upper().replace("I", "")
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 9 and int(digits)) or unit not in _PAGE_UNITS:
        raise ValidationError(f"{path}.hw:mem_page_size", text, "small, large, any or a size such as 2MB")
    return int(digits) * _PAGE_UNITS[unit]


def guest_cells(path: str, specs: Mapping[str, str], vcpus: float, ram_mb: float) -> tuple[GuestCell, ...]:
    """The cells, one without `hw:numa_nodes`: evenly divided, or as `hw:numa_cpus.N` and `hw:numa_mem.N` say.

    :raises ValidationError: it does not divide, or the cells are not the vCPUs and the memory of the flavor, each vCPU once.
    """
    field = f"{path}.hw:numa_nodes"
    count = integer(field, specs.get("hw:numa_nodes", 1), 1)
    if count > _MOST_CELLS:
        raise ValidationError(field, count, f"at most {_MOST_CELLS} cells")
    numbered = {key: found[1] for key in specs if (found := _NUMBERED.fullmatch(key))}
    for key, index in numbered.items():
        if index not in map(str, range(count)):
            raise ValidationError(f"{path}.{key}", specs[key], f"hw:numa_nodes above {index}" if index.isdigit() else "the number of a cell after the dot")
    if not numbered:
        if vcpus % count or ram_mb % count:
            raise ValidationError(field, count, f"cells that {vcpus} vCPUs and {ram_mb} MB can be divided into evenly, or hw:numa_cpus.N and hw:numa_mem.N")
        return (GuestCell(int(vcpus // count), int(ram_mb // count), None),) * count
    sets = [_cpus(f"{path}.hw:numa_cpus.{index}", specs.get(f"hw:numa_cpus.{index}", "")) for index in range(count)]
    memory = [integer(f"{path}.hw:numa_mem.{index}", specs.get(f"hw:numa_mem.{index}"), 1) for index in range(count)]
    if sum(memory) != ram_mb or sum(map(len, sets)) != vcpus or frozenset().union(*sets) != frozenset(range(int(vcpus))):
        raise ValidationError(field, count, f"cells that add up to the {vcpus} vCPUs and {ram_mb} MB of the flavor, each vCPU from 0 in one of them")
    return tuple(GuestCell(len(cpus), size, cpus) for cpus, size in zip(sets, memory))


def _cpus(path: str, text: str) -> frozenset[int]:
    """The CPUs that a set such as `0-3,^2,6` names."""
    chosen: set[int] = set()
    dropped: set[int] = set()
    for part in text.split(","):
        first, _dash, last = part.strip().removeprefix("^").partition("-")
        low, high = integer(path, first, 0), integer(path, last or first, 0)
        if high > _HIGHEST_CPU:
            raise ValidationError(path, text, f"CPUs up to {_HIGHEST_CPU}")
        (dropped if part.strip().startswith("^") else chosen).update(range(low, high + 1))
    return frozenset(chosen - dropped)
