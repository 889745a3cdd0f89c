# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A definition gets a flavor: vCPUs, memory and what extra specs set, and our metadata say which one it is. Nothing else changes."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from typing import Any

from .._rules import huge_pages as _huge_pages
from . import memory as _memory, numa as _numa, pins as _pins, tree as _tree, tuning as _tuning, vcpus as _vcpus
from .definition import flavor_in_force, own_record


def apply_flavor(root: ET.Element, vcpus: int, ram_mib: int, tuning: Mapping[str, Any] | None = None, pins: Sequence[int] | None = None) -> None:
    """Give the guest `vcpus` vCPUs, all online, and `ram_mib` MiB, with no balloon target below, and what the flavor's extra specs set.

    What it has already is left alone, room for hot-plugged vCPUs and balloon targets included. What an earlier flavor set and this one does
    not, is as it was before that flavor.

    :param tuning: as `planning/extra_specs.py` makes it; None for no other flavor than the one in force.
    :param pins: for a flavor with CPUs of its own, which CPU of this host each vCPU is bound to.
    :raises KvmfleetError: `unsupported_...`, with the numbers, for what the definition cannot be given.
    """
    have = flavor_in_force(root)
    resized = (vcpus, ram_mib) != (have.vcpus, have.ram)
    if tuning is None and not resized:
        if pins is not None:
            _pins.apply(root, pins)
        return
    topology, numa = ((tuning or {}).get(name) for name in ("topology", "numa"))
    _tuning.apply(root, tuning or {})
    recounted = vcpus != have.vcpus or bool((topology or numa) and vcpus != _vcpus.maximum(root))
    if recounted:
        _vcpus.set_vcpus(root, vcpus)
    _pins.apply(root, pins)
    if recounted or topology or own_record(root, "topology") is not None:
        _vcpus.set_topology(root, _vcpus.maximum(root), topology)
    if ram_mib != have.ram:
        _memory.set_memory(root, ram_mib * 1024)
    if resized or recounted or numa or own_record(root, "numa") is not None:
        _numa.set_cells(root, _vcpus.maximum(root), _memory.base_kib(root), numa)
    if resized or (tuning or {}).get("hugepages") is not None:
        cells = [_numa.cell_kib(cell) for cell in root.findall("cpu/numa/cell")]
        _huge_pages.require_whole_pages(root, cells or [_memory.base_kib(root)])


def set_kvmfleet_metadata(
    root: ET.Element, flavor_name: str | None, zone: str | None, origin_host: str, migration_id: str, extra_specs: Mapping[str, str] | None = None
) -> None:
    """Record the flavor by name (with the size that it has in this definition), the zone asked for, and where the guest came from."""
    have = flavor_in_force(root)
    specs = [("extra_spec", {"name": name, "value": value}) for name, value in sorted((extra_specs or {}).items())]
    _tree.record(root, "flavor", {"name": flavor_name, "vcpus": str(have.vcpus), "ram": str(have.ram)} if flavor_name else None, specs)
    _tree.record(root, "availability_zone", {"name": zone} if zone else None)
    _tree.record(root, "origin", {"host": origin_host, "migration": migration_id})
