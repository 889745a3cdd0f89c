# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Disks that take all of their room from the beginning, so that a full filesystem never stops their guest.

What travels is the data, and holes stay holes. So the room is set aside anew at the destination.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from .._journal.records import Journal
from .._system import whole_file as _whole_file

_LIBC = ctypes.CDLL(None, use_errno=True)
_LIBC.fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)


def set_aside(journal: Journal, record: dict[str, Any], disk: Mapping[str, Any], path: str, lacking: Callable[[], Sequence[object]]) -> dict[str, Any]:
    """Give a file that has arrived the room which it had where it came from, if it had all of it.

    A guest that gets its disk without is better off than one that does not move, so no failure ends the operation: the record says it.

    :param disk: of the record; :param path: the file, before a flavor makes it larger, which no room is set aside for.
    :param lacking: tells what room the host lacks for all that has yet to come.
    """
    if disk["allocated_bytes"] < disk["virtual_size"]:
        return record
    with _whole_file.part(path) as descriptor:
        status = os.fstat(descriptor)
        missing = status.st_size - status.st_blocks * 512
        if missing <= 0:
            return record
        short = lacking()
        why = str(short[0]) if short else _allocate(descriptor, status.st_size)
    return journal.update(record, note=f"{disk['target']}: no room is set aside for the whole disk: {why}") if why else record


def _allocate(descriptor: int, size: int) -> str:
    """Set it aside without writing, if the filesystem can; else why not. What Python has for it writes each block where the filesystem cannot."""
    return os.strerror(ctypes.get_errno()) if _LIBC.fallocate(descriptor, 0, 0, size) else ""
