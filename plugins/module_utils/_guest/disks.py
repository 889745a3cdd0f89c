# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a host knows of the disks of a guest, and of the files that it boots from."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from typing import Any

from .._domain import (
    definition as _definition,
    media as _media,
)
from .._journal.state_dir import StateDir
from .._rules.errors import KvmfleetError
from .._storage import (
    identity as _identity,
    pools as _pools,
    qemu_img as _qemu_img,
)

BOOT_FILE = "boot_file"


def disk_facts(conn: Any, disk: _definition.Disk, *, state: StateDir, directories: Sequence[str], active: bool, digests: bool) -> dict[str, Any]:
    """A disk by its definition, and what its image says.

    :param directories: those of the host's images, below which alone one is opened; :param active: the guest runs, and writes to it.
    :param digests: identify the layers below the top one by content, which reads them once; else as far as that is known already.
    """
    facts: dict[str, Any] = {
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
    }
    if disk.source_type not in ("file", "volume") or (disk.path or disk.volume) is None:
        return facts
    try:
        facts["path"] = _pools.path_of(conn, disk)
        if _media.is_left_out(disk, facts["path"]):
            return {**facts, **dict.fromkeys(("path", "pool", "volume")), "left_out": facts["path"]}
        layers = _qemu_img.chain(facts["path"], disk.format, directories, force_share=active)
        top = layers[0]
        size = _qemu_img.luks_size(top.path, force_share=active) if disk.encrypted and disk.format == "raw" else top.virtual_size
        facts["chain"] = [_layer_facts(layer) for layer in layers]
        identities = _identity.chain_identities if digests else _identity.kept_identities
        for layer, identity in zip(facts["chain"][1:], identities(state, layers[1:])):
            layer.update({"identity": identity} if identity else {})
    except KvmfleetError as exc:
        facts["error"] = {"code": exc.code, "message": exc.message}
        if exc.code == "image_outside_directories" and not os.path.lexists(facts["path"]):
            # Where it should lie is of no use to somebody who has to find out that it is gone.
            facts["error"] = {"code": "image_missing", "message": f"{facts['path']} does not exist."}
    except OSError as exc:
        facts["error"] = {"code": "image_unreadable", "message": f"{facts['path']} cannot be read: {exc}."}
    else:
        facts.update(virtual_size=size, allocated_bytes=top.actual_size, file_bytes=top.file_size)
    return facts


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


def _layer_facts(layer: _qemu_img.Layer) -> dict[str, Any]:
    return {
        "path": layer.path,
        "format": layer.format,
        "virtual_size": layer.virtual_size,
        "allocated_bytes": layer.actual_size,
        "file_bytes": layer.file_size,
        "encrypted": layer.encrypted,
        "corrupt": layer.corrupt,
        "dirty": layer.dirty,
        "snapshots": list(layer.snapshots),
        "mode": f"{stat.S_IMODE(os.stat(layer.path).st_mode):04o}",
    }
