# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Extra specs of a flavor that change the guest, by Nova's names and rules; what this release cannot apply is refused by name.

The others are placement's: `capabilities:`, `aggregate_instance_extra_specs:`, `pci_passthrough:` and keys without a namespace. Nobody here
reads `trait:`, `resources:` and namespaces that Nova does not know.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from ansible_collections.kvmfleet.compute.plugins.module_utils._rules.errors import KvmfleetError
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.planning import cpu_topology
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.guest_numa import guest_cells, page_kib
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.validation import ValidationError, integer

_CPU_TUNE = {"shares": (1, 262144), "period": (1000, 1000000), "quota": (1000, 17592186044415)}
_DISK_TUNE = tuple(f"{direction}_{kind}_sec" for direction in ("read", "write", "total") for kind in ("bytes", "iops"))
_DISK_MOST = 10**15
_VIF_TUNE = tuple((direction, rate) for direction in ("inbound", "outbound") for rate in ("average", "peak", "burst"))
_VIF_MOST = 4294967295
_SMALL_PAGE_KIB = 4
_MOST_VCPUS = 8192

SUPPORTED = (
    "hw:cpu_policy",
    *(f"hw:cpu_{limit}{part}" for limit in ("", "max_") for part in cpu_topology.PARTS),
    "hw:numa_nodes",
    "hw:numa_cpus.N",
    "hw:numa_mem.N",
    "hw:mem_page_size",
    *(f"quota:cpu_{name}" for name in _CPU_TUNE),
    "quota:memory_limit",
    *(f"quota:disk_{name}" for name in _DISK_TUNE),
    *(f"quota:vif_{direction}_{rate}" for direction, rate in _VIF_TUNE),
)
"""What a flavor may ask for; N is the number of a NUMA cell."""

_NUMBERED = re.compile(r"(hw:numa_(?:cpus|mem))\..*", re.DOTALL)
_CHANGES_THE_GUEST = re.compile(r"(?:hw|quota|os|accel)(?:_[^:]*)?:.*|hw_.*", re.DOTALL)
_ONLY_QEMU = "libvirt cannot do it with QEMU"
_WHY_NOT = {
    "quota:memory_reservation": _ONLY_QEMU,
    "quota:memory_shares_level": _ONLY_QEMU,
    "quota:memory_shares_share": _ONLY_QEMU,
}


def changes_guest(specs: Mapping[str, str]) -> dict[str, str]:
    """Those of the extra specs that are about the guest itself, as opposed to where it may be."""
    return {key: text for key, text in specs.items() if _CHANGES_THE_GUEST.fullmatch(key)}


def tuning(field: str, flavor: Mapping[str, Any]) -> dict[str, Any]:
    """What the extra specs of a flavor come to in the definition of the guest.

    :param field: of the flavor, for errors; :param flavor: as `validation.flavor` returns it.
    :returns: `dedicated`, whether it gets CPUs to itself (see `dedicated_cells`); `topology` (`sockets`, `cores`, `threads`) or None; `numa`
        (`nodes`, and `cells` with `cpus` and `memory` in MiB, None for an even split) or None; `hugepages` (a size in KiB, `default` for the
        host's own) or None; `cputune`, `memtune` (KiB), `iotune` and `bandwidth` (`inbound`, `outbound`) by libvirt's names.
    :raises KvmfleetError: `unsupported_extra_specs`; ValidationError for a value that is none.
    """
    path, specs = f"{field}.extra_specs", changes_guest(flavor["extra_specs"])
    refused = [f"{key} ({reason})" for key, text in sorted(specs.items()) if (reason := _why_not(path, key, text))]
    if refused:
        raise KvmfleetError(
            "unsupported_extra_specs",
            f"{path}: this release does not apply {'; '.join(refused)}. It applies {', '.join(SUPPORTED)}.",
            extra_specs=sorted(key for key, text in specs.items() if _why_not(path, key, text)),
            supported=list(SUPPORTED),
        )
    return {
        "dedicated": specs.get("hw:cpu_policy") == "dedicated",
        "topology": _topology(path, specs, flavor["vcpus"]),
        "numa": _numa(path, specs, flavor),
        "hugepages": _hugepages(path, specs),
        "cputune": _cputune(path, specs),
        "memtune": _memtune(path, specs, flavor["ram"]),
        "iotune": _iotune(path, specs),
        "bandwidth": _bandwidth(path, specs),
    }


def dedicated_cells(field: str, flavor: Mapping[str, Any]) -> list[list[int]] | None:
    """The vCPUs of each NUMA cell of a guest that is to have CPUs to itself; None for a flavor that asks for none."""
    if flavor["extra_specs"].get("hw:cpu_policy") != "dedicated":
        return None
    cells, first, found = guest_cells(f"{field}.extra_specs", flavor["extra_specs"], flavor["vcpus"], flavor["ram"]), 0, []
    for cell in cells:
        found.append(sorted(cell.cpus) if cell.cpus is not None else list(range(first, first + cell.vcpus)))
        first += cell.vcpus
    return found


def _why_not(path: str, key: str, text: str) -> str | None:
    if key == "hw:cpu_policy":
        if text not in ("shared", "dedicated", "mixed"):
            raise ValidationError(f"{path}.{key}", text, "shared, dedicated or mixed")
        return "mixed: use dedicated or shared" if text == "mixed" else None
    if _NUMBERED.sub(r"\1.N", key) in SUPPORTED:
        return None
    return _WHY_NOT.get(key, "unknown here")


def _topology(path: str, specs: Mapping[str, str], vcpus: int) -> dict[str, int] | None:
    wishes, most = (_given(path, specs, f"hw:cpu_{limit}", dict.fromkeys(cpu_topology.PARTS, (1, 65536))) for limit in ("", "max_"))
    if not wishes and not most:
        return None
    if vcpus > _MOST_VCPUS:
        raise ValidationError(path, vcpus, f"a flavor of at most {_MOST_VCPUS} vCPUs, to choose their topology")
    chosen = cpu_topology.choose(vcpus, wishes, most)
    if chosen is None:
        limits = " x ".join(f"{most[part]} {part}" for part in cpu_topology.PARTS if part in most)
        raise ValidationError(f"{path}.hw:cpu_max_{next(iter(most))}", limits, f"limits that {vcpus} vCPUs can be divided into")
    return chosen


def _numa(path: str, specs: Mapping[str, str], flavor: Mapping[str, Any]) -> dict[str, Any] | None:
    if not any(key.startswith("hw:numa_") for key in specs):
        return None
    cells = guest_cells(path, specs, flavor["vcpus"], flavor["ram"])
    numbered = [{"cpus": ",".join(map(str, sorted(cell.cpus))), "memory": cell.memory_mb} for cell in cells if cell.cpus is not None]
    return {"nodes": len(cells), "cells": numbered or None}


def _hugepages(path: str, specs: Mapping[str, str]) -> int | str | None:
    size = page_kib(path, specs)
    if size is None or size <= _SMALL_PAGE_KIB:
        return None
    return "default" if size == math.inf else int(size)


def _cputune(path: str, specs: Mapping[str, str]) -> dict[str, int]:
    unlimited = specs.get("quota:cpu_quota") == "-1"
    found = _given(path, {key: text for key, text in specs.items() if not (unlimited and key == "quota:cpu_quota")}, "quota:cpu_", _CPU_TUNE)
    return {**found, "quota": -1} if unlimited else found


def _memtune(path: str, specs: Mapping[str, str], ram: int) -> dict[str, int]:
    text = specs.get("quota:memory_limit")
    if text is None:
        return {}
    limit = integer(f"{path}.quota:memory_limit", text, 1)
    if limit <= ram:
        raise ValidationError(f"{path}.quota:memory_limit", text, f"more than the flavor's {ram} MiB (QEMU needs memory of its own besides, else it is killed)")
    return {"hard_limit": limit * 1024}


def _iotune(path: str, specs: Mapping[str, str]) -> dict[str, int]:
    limits = {name: value for name, value in _given(path, specs, "quota:disk_", dict.fromkeys(_DISK_TUNE, (0, _DISK_MOST))).items() if value}
    for kind in ("bytes", "iops"):
        if f"total_{kind}_sec" in limits and not limits.keys().isdisjoint((f"read_{kind}_sec", f"write_{kind}_sec")):
            raise ValidationError(
                f"{path}.quota:disk_total_{kind}_sec", specs[f"quota:disk_total_{kind}_sec"], "a limit of the total, or one of reads and of writes, not both"
            )
    return limits


def _bandwidth(path: str, specs: Mapping[str, str]) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {}
    for direction in ("inbound", "outbound"):
        prefix = f"quota:vif_{direction}_"
        rates = {name: value for name, value in _given(path, specs, prefix, dict.fromkeys(("average", "peak", "burst"), (0, _VIF_MOST))).items() if value}
        if rates and "average" not in rates:
            raise ValidationError(f"{path}.{prefix}average", specs.get(f"{prefix}average"), f"a rate in KiB/s, which {', '.join(rates)} needs")
        if rates:
            found[direction] = rates
    return found


def _given(path: str, specs: Mapping[str, str], prefix: str, ranges: Mapping[str, tuple[int, int]]) -> dict[str, int]:
    """The numbers that are given, by the names after the prefix, each within its range."""
    return {name: _within(f"{path}.{prefix}{name}", specs[prefix + name], *bounds) for name, bounds in ranges.items() if prefix + name in specs}


def _within(field: str, text: str, low: int, high: int) -> int:
    value = integer(field, text, low)
    if value > high:
        raise ValidationError(field, text, f"a whole number from {low} to {high}")
    return value
