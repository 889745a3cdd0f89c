# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A disk that is a volume of a storage pool which is a directory of its host: a file, of which libvirt keeps the place."""

from __future__ import annotations

import os
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ..._domain import edit as _edit
from ..._domain.definition import Disk
from ..._libvirt import storage as _storage
from .. import pools as _pools
from .file import File
from .kind import Name


class Volume(File):
    """It goes where the pool of that name is, under the name that it has in it."""

    source_types = ("volume",)
    by_path = False
    makes_directories = False

    def is_empty(self, disk: Disk) -> bool:
        return disk.volume is None

    def path(self, conn: Any, disk: Disk) -> str | None:
        """:raises KvmfleetError: as `_storage.pools.volume_path`."""
        return _pools.volume_path(conn, disk.pool, disk.volume) if disk.pool and disk.volume else disk.path

    def path_if_known(self, conn: Any, disk: Disk) -> str | None:
        """Whether its pool is active or not."""
        pool = None if disk.path or not (disk.pool and disk.volume) else _storage.find_pool(conn, disk.pool)
        if pool is None:
            return disk.path
        found = _pools.facts(pool)
        return os.path.join(found["path"], disk.file_name) if found["type"] in _pools.DIRECTORIES and found["path"] else None

    def named(self, disk: Disk) -> Name | None:
        return (disk.pool, disk.volume) if any((disk.pool, disk.volume, disk.path)) else None

    def holds(self, disk: Mapping[str, Any]) -> bool:
        return bool(disk.get("pool"))

    def here(self, conn: Any, disk: Mapping[str, Any], path: str | None) -> str:
        """:raises KvmfleetError: as `_storage.pools.volume_path`."""
        return _pools.volume_path(conn, disk["pool"], disk["volume"])

    def called(self, disk: Mapping[str, Any], path: str) -> dict[str, Any]:
        return dict(disk, path=path, volume=os.path.basename(path))

    def lacking(self, disk: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        directory = os.path.dirname(disk["path"])
        if not os.path.isdir(directory):
            yield "directory_missing", f"the directory {directory} does not exist here, in which the storage pool keeps its volumes"

    def sync(self, conn: Any, disks: Sequence[Mapping[str, Any]]) -> None:
        """libvirt looks into the directory of a pool only when it is told to.

        A pool that is right already is left alone, since all its files are opened. One that cannot be read now shows when the guest starts.
        """
        for name in sorted({disk["pool"] for disk in disks}):
            pool, own = _storage.find_pool(conn, name), [disk for disk in disks if disk["pool"] == name]
            if pool is not None and any(os.path.exists(disk["path"]) != _storage.has_volume(pool, disk["volume"]) for disk in own):
                _storage.refresh_pool(pool)

    def noted(self, disk: Mapping[str, Any]) -> Name:
        return disk["pool"], disk["volume"]

    def define(self, root: ET.Element, disk: Mapping[str, Any], image_format: str | None = None) -> None:
        _edit.set_disk_volume(root, disk["target"], disk["pool"], disk["volume"], image_format)

    def is_misnamed(self, disk: Mapping[str, Any]) -> bool:
        """What was merged lies in the file that the volume is; a layer was none."""
        return True
