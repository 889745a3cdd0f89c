# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a host knows of the disks of a guest, and of the files that it boots from."""

from __future__ import annotations

from typing import Any

from .._domain import definition as _definition
from .._storage.kinds import registry as _kinds
from .._storage.kinds.kind import Examined

BOOT_FILE = "boot_file"


def disk_facts(guest: Examined, disk: _definition.Disk) -> dict[str, Any]:
    """A disk by its definition, and what is found where it lies."""
    return {
        "target": disk.target,
        "device": disk.device,
        "source_type": disk.source_type,
        "path": disk.path,
        "pool": disk.pool,
        "volume": disk.volume,
        "format": disk.format,
        "bus": disk.bus,
        "readonly": disk.readonly,
        "shareable": disk.shareable,
        "root": disk.is_root,
        "encrypted": disk.encrypted,
        **_kinds.named(disk).facts(guest, disk),
    }


def boot_file(name: str, path: str) -> _definition.Disk:
    """It travels as a medium does: byte for byte, and the source keeps it, since other guests may boot from it."""
    return _definition.Disk(
        target=name,
        device=BOOT_FILE,
        source_type="file",
        path=path,
        pool=None,
        volume=None,
        format="raw",
        readonly=True,
        shareable=False,
        bus=None,
        serial=None,
        boot_order=None,
        is_root=False,
    )
