# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A disk in a file of its host."""

from __future__ import annotations

import os
import stat
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from typing import Any

from ..._domain import edit as _edit, media as _media
from ..._domain.definition import Disk
from ..._journal.records import Journal
from ..._rules import file_names as _file_names
from ..._rules.errors import KvmfleetError
from ..._system import whole_file as _whole_file
from .. import preallocation as _preallocation, qemu_img as _qemu_img
from .kind import Arrived, Claim, Examined, Kind


class File(Kind):
    """An image below the directories that its host has for images."""

    source_types = ("file",)

    def is_empty(self, disk: Disk) -> bool:
        return disk.path is None

    def facts(self, guest: Examined, disk: Disk) -> dict[str, Any]:
        """What its image says; `error` where that cannot be read."""
        found: dict[str, Any] = {}
        if self.is_empty(disk):
            return found
        try:
            found["path"] = self.path(guest.conn, disk)
            if _media.is_left_out(disk, found["path"]):
                return {**dict.fromkeys(("path", "pool", "volume")), "left_out": found["path"]}
            layers = _qemu_img.chain(found["path"], disk.format, guest.directories, force_share=guest.active)
            top = layers[0]
            size = _qemu_img.luks_size(top.path, force_share=guest.active) if disk.encrypted and disk.format == "raw" else top.virtual_size
            found["chain"] = [_layer_facts(layer) for layer in layers]
            for layer, identity in zip(found["chain"][1:], guest.content_ids(layers[1:])):
                layer.update({"identity": identity} if identity else {})
        except KvmfleetError as exc:
            found["error"] = {"code": exc.code, "message": exc.message}
            if exc.code == "image_outside_directories" and not os.path.lexists(found["path"]):
                # Where it should lie is of no use to somebody who has to find out that it is gone.
                found["error"] = {"code": "image_missing", "message": f"{found['path']} does not exist."}
        except OSError as exc:
            found["error"] = {"code": "image_unreadable", "message": f"{found['path']} cannot be read: {exc}."}
        else:
            found.update(virtual_size=size, allocated_bytes=top.actual_size, file_bytes=top.file_size)
        return found

    def unfit(self, disk: Disk) -> str | None:
        return super().unfit(disk) if self.is_empty(disk) else None

    def holds(self, disk: Mapping[str, Any]) -> bool:
        """All that no other kind holds: a record of any release has the path of each disk."""
        return True

    def here(self, conn: Any, disk: Mapping[str, Any], path: str | None) -> str:
        """:raises KvmfleetError: `directory_missing`."""
        if path is None:
            raise KvmfleetError("directory_missing", f"{disk['target']}: the directory of this name is not known of this host", target=disk["target"])
        return path

    def place(self, disk: dict[str, Any], here: str, claim: Claim) -> dict[str, Any]:
        """A medium whose name is taken (an ISO that other guests use) gets a name of its own."""
        if disk["kind"] == "media" and os.path.lexists(here):
            stem, extension = os.path.splitext(here)
            here = _file_names.beside(stem, _file_names.OTHER_MEDIUM, {"uuid": claim.uuid}) + extension
        return self.called(disk, here)

    def define(self, root: ET.Element, disk: Mapping[str, Any], image_format: str | None = None) -> None:
        _edit.set_disk_source(root, disk["target"], disk["path"], image_format)

    def sealed_path(self, record: Mapping[str, Any], disk: Mapping[str, Any]) -> str | None:
        """Media such as seed ISOs keep their names: other guests may use them."""
        return _file_names.beside(disk["path"], _file_names.SEALED, record) if disk["kind"] == "disk" else None

    def rename(self, old: str, new: str) -> None:
        _whole_file.rename(old, new)

    def remove(self, path: str) -> None:
        _whole_file.remove(path)

    def length(self, path: str) -> int:
        return os.lstat(path).st_size

    def rebase(self, journal: Journal, record: dict[str, Any], disk: Mapping[str, Any], arrived: Arrived) -> None:
        base = disk["base"]
        if base is not None:
            path = arrived.bases.get(base["sha256"])
            if path is None:
                raise KvmfleetError("base_missing", f"No base image with sha256 {base['sha256']} was named for {disk['target']}.", need=base["sha256"])
            arrived.prove(path, base, _directories(record, arrived))
            _qemu_img.rebase_unsafe(arrived.part, disk["format"], path, base["format"])

    def adopt(self, journal: Journal, record: dict[str, Any], disk: Mapping[str, Any], arrived: Arrived) -> dict[str, Any]:
        """Rebase the received file, set its room aside, grow and check it."""
        part, key = arrived.part, arrived.key
        if disk["kind"] == "disk":
            self.rebase(journal, record, disk, arrived)
            record = _preallocation.set_aside(journal, record, disk, part, arrived.lacking)
        size = _qemu_img.luks_size(part) if key and disk["format"] == "raw" else _qemu_img.info(part, disk["format"]).virtual_size
        if size != disk["virtual_size"]:
            raise KvmfleetError("chain_changed", f"{part} has {size} bytes for the guest; by the plan {disk['target']} has {disk['virtual_size']}.")
        if disk["grow_to"] and size < disk["grow_to"]:
            self.grow(part, disk, key)
        if disk["format"] != "raw":
            _qemu_img.check(part, disk["format"], key)
        layers = _qemu_img.chain(part, disk["format"], _directories(record, arrived))
        if len(layers) != 1 + len(disk["bases"]):
            raise KvmfleetError("chain_changed", f"{part} has a chain of {len(layers)} layers here: {[layer.path for layer in layers]}.")
        return record

    def grow(self, path: str, disk: Mapping[str, Any], key: bytes | None) -> None:
        _qemu_img.resize(path, disk["format"], disk["grow_to"], key)


def _directories(record: Mapping[str, Any], arrived: Arrived) -> list[str]:
    """Where what has come, and what it stands on, may lie."""
    return record["image_directories"] + [os.path.dirname(path) for path in arrived.bases.values()]


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
