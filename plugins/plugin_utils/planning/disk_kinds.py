# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the plan has to know of the kinds of storage that a disk may lie in, each in a class; what hosts do about them is in `_storage.kinds` of module_utils.

A kind that hosts tell of by its path, and that goes where that path is there, needs none: it is as a file.
"""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from typing import Any

from ansible_collections.kvmfleet.compute.plugins.module_utils._rules.errors import KvmfleetError
from ansible_collections.kvmfleet.compute.plugins.module_utils._rules.host_facts import HostFacts

GIB = 1024**3


class File:
    """A disk in a file of its host, in a directory that has a name on each host, or that is in the same place there."""

    def holds(self, disk: Mapping[str, Any]) -> bool:
        """Whether a disk of the facts of a guest is of this kind."""
        return True

    def left(self, disk: Mapping[str, Any]) -> str | None:
        """Why it stays where it is whatever host its guest runs on; None for what travels."""
        return None

    def needs(self, disk: Mapping[str, Any], source: HostFacts) -> tuple[str, str | None]:
        """What a host must have for it: of what (`directories`, `pools`), and the name, None where it needs none.

        :param source: facts of the host that it is on.
        """
        return "directories", _directory(disk["path"], source)[0] if disk["path"] else None

    def goes(self, disk: Mapping[str, Any], source: HostFacts, destination: HostFacts, pool: str | None) -> tuple[str | None, str]:
        """Where it comes to lie on another host, None where facts do not tell it, and why.

        :param pool: the storage pool that it is in, as the destination calls that.
        """
        name, directory = _directory(disk["path"], source)
        if directory is None:
            return disk["path"], "a directory that has no name in kvmfleet_disk_directories, so the path stays"
        if name is None:
            return _moved(disk["path"], directory, destination.get("images_path")), "directory of images"
        return _moved(disk["path"], directory, _named(destination).get(name)), f"directory {name} of kvmfleet_disk_directories"

    def file_name(self, disk: Mapping[str, Any]) -> str:
        """What it is called, whatever directory it is in."""
        return posixpath.basename(disk["path"])

    def beside(self, disk: Mapping[str, Any], path: str) -> dict[str, Any]:
        """Pool and volume of a disk that is made beside it."""
        return {"pool": None, "volume": None}

    def unlayered(self, disk: Mapping[str, Any]) -> str | None:
        """Why no layer can be laid over it while the guest runs, as pre-copy does."""
        return None if disk.get("source_type") == "file" else f"is of the type {disk.get('source_type')}, which is not layered while the guest runs"

    def require_size(self, name: str, disk: Mapping[str, Any], new: Mapping[str, Any]) -> None:
        """As the root disk of a guest, it can have the size of a flavor.

        :param name: of the guest; :raises KvmfleetError: `downsize`.
        """
        size = disk["virtual_size"]
        if size is not None and new["disk"] * GIB < size:
            raise KvmfleetError(
                "downsize",
                f"flavor.disk: {new['disk']} GiB is less than the {size} bytes ({size / GIB:.2f} GiB) that {disk['target']} of "
                f"{name} has; a disk never shrinks. Set keep_disk (in roles: resize_keep_disk) to leave the disk as it is, or give the flavor disk: 0.",
                field="disk",
                need=size,
                have=new["disk"] * GIB,
            )


class Volume(File):
    """A volume of a storage pool, which comes into the pool of the same name."""

    def holds(self, disk: Mapping[str, Any]) -> bool:
        return bool(disk.get("pool"))

    def needs(self, disk: Mapping[str, Any], source: HostFacts) -> tuple[str, str | None]:
        return "pools", disk["pool"]

    def goes(self, disk: Mapping[str, Any], source: HostFacts, destination: HostFacts, pool: str | None) -> tuple[str | None, str]:
        there = next((known["path"] for known in destination.get("pools") or () if known["name"] == pool), None)
        return there and posixpath.join(there, disk["volume"]), f"volume {disk['volume']} of the storage pool {pool}"

    def file_name(self, disk: Mapping[str, Any]) -> str:
        return disk["volume"]

    def beside(self, disk: Mapping[str, Any], path: str) -> dict[str, Any]:
        return {"pool": disk["pool"], "volume": posixpath.basename(path)}


class Network(File):
    """A disk in network storage, which every host reaches."""

    def holds(self, disk: Mapping[str, Any]) -> bool:
        return bool(disk.get("network"))

    def left(self, disk: Mapping[str, Any]) -> str | None:
        return f"{disk['network']['protocol']} storage stays as it is, and a revert does not bring back what it held"

    def unlayered(self, disk: Mapping[str, Any]) -> str | None:
        """No layer is needed: nothing of it travels."""
        return None

    def require_size(self, name: str, disk: Mapping[str, Any], new: Mapping[str, Any]) -> None:
        """It is never resized: the flavor must have the size that it has there.

        :raises KvmfleetError: `disk_size_unknown`, `network_disk_size`.
        """
        size, what = disk["virtual_size"], f"{disk['target']} of {name} is in {disk['network']['protocol']} storage"
        if size is None:
            raise KvmfleetError(
                "disk_size_unknown",
                f"flavor.disk: {what}, and its size shows only while the guest runs. Start it first, or set keep_disk (in roles: resize_keep_disk).",
                field="disk",
            )
        if -(-size // GIB) != new["disk"]:
            raise KvmfleetError(
                "network_disk_size",
                f"flavor.disk: {new['disk']} GiB; {what} and has {size} bytes ({size / GIB:.2f} GiB) there, which is left alone. Resize it with the tools of "
                "the storage first, or set keep_disk (in roles: resize_keep_disk) to leave the disk as it is.",
                field="disk",
                need=new["disk"] * GIB,
                have=size,
            )


ALL: tuple[File, ...] = (
    Network(),
    Volume(),
    File(),
)


def of(disk: Mapping[str, Any]) -> File:
    """What a disk of the facts of a guest lies in."""
    return next(kind for kind in ALL if kind.holds(disk))


def _directory(path: str, host: HostFacts) -> tuple[str | None, str | None]:
    """The directory of the host that the path is in, the innermost one, after its name, which that of images has not."""
    images = [(None, host["images_path"])] if host.get("images_path") else []
    found = [(name, directory) for name, directory in (*_named(host).items(), *images) if posixpath.normpath(path).startswith(directory.rstrip("/") + "/")]
    return max(found, key=lambda entry: len(entry[1].rstrip("/")), default=(None, None))


def _named(host: HostFacts) -> dict[str, str]:
    return {directory["name"]: directory["path"] for directory in host.get("disk_directories") or ()}


def _moved(path: str, directory: str, to: str | None) -> str | None:
    """The same place below another directory; None where the facts do not tell it, for the claim to refuse."""
    return to and posixpath.join(to, posixpath.relpath(path, directory))
