# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The memory of a definition: the flavor's is the total, memory devices (DIMMs) included."""

from __future__ import annotations

import xml.etree.ElementTree as ET

from .._rules import memory_units as _memory_units
from .._rules.errors import KvmfleetError

_MIB = 1024


def set_memory(root: ET.Element, kib: int) -> None:
    """Give the guest so much memory, with no balloon target below.

    :raises KvmfleetError: `unsupported_memory_devices`, `unsupported_max_memory` or `unsupported_memtune`, with the numbers in MiB.
    """
    memory = root.find("memory")
    if memory is None:
        raise KvmfleetError("invalid_domain_xml", "The definition has no <memory>.")
    limit, hard_limit = root.find("maxMemory"), root.find("memtune/hard_limit")
    for element, code in ((limit, "unsupported_max_memory"), (hard_limit, "unsupported_memtune")):
        if element is not None and _memory_units.kib(element) < kib:
            have = _memory_units.kib(element) // _MIB
            raise KvmfleetError(
                code, f"<{element.tag}> allows {have} MiB, the flavor has {kib // _MIB} MiB: raise it in the definition first.", need=kib // _MIB, have=have
            )
    current = root.find("currentMemory")
    for element in (memory,) if current is None else (memory, current):
        element.text = str(kib)
        element.set("unit", "KiB")
    base_kib(root)


def base_kib(root: ET.Element) -> int:
    """What the memory devices, which keep their size, leave for the guest itself and its NUMA cells."""
    memory = root.find("memory")
    total = 0 if memory is None else _memory_units.kib(memory)
    devices = sum(_memory_units.kib(size) for size in root.findall("devices/memory/target/size"))
    if devices >= total > 0:
        raise KvmfleetError(
            "unsupported_memory_devices",
            f"The memory devices (DIMMs) of the guest have {devices / _MIB:g} MiB together, the flavor has {total / _MIB:g} MiB in all, which leaves nothing "
            "for the guest to boot with: remove some of them first, or use a larger flavor.",
            need=devices // _MIB + 1,
            have=total // _MIB,
        )
    return total - devices
