# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Versioned machine types of QEMU, such as `pc-q35-10.0`: the board that a guest sees, as that version of QEMU made it."""

from __future__ import annotations

import bisect
import functools
import re
from collections.abc import Iterable

_SHOWN = 4


def lacking(machine: str, known: Iterable[str]) -> tuple[str, tuple[str, ...]]:
    """Of a host that does not know the machine type: a sentence without its subject, and the types of its kind that are nearest, oldest first."""
    nearest = _nearest(machine, tuple(known))
    return f"does not know the machine type {machine}" + (f"; of its kind it knows {', '.join(nearest)}" if nearest else ""), nearest


@functools.lru_cache(maxsize=64)  # most hosts of a fleet know the same
def _nearest(machine: str, known: tuple[str, ...]) -> tuple[str, ...]:
    alike = sorted({name for name in known if _kind(name) == _kind(machine)}, key=_version)
    before = bisect.bisect_left([_version(name) for name in alike], _version(machine))
    start = max(0, min(before - _SHOWN // 2, len(alike) - _SHOWN))
    return tuple(alike[start : start + _SHOWN])


def _kind(machine: str) -> str:
    """`pc-q35` of `pc-q35-7.2`; an alias such as `q35` is a kind by itself."""
    return machine.rpartition("-")[0] or machine


def _version(machine: str) -> tuple[list[int], str]:
    return [int(number) for number in re.findall(r"[0-9]{1,9}", machine.rpartition("-")[2])], machine
