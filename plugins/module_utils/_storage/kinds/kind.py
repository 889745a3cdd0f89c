# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a kind of storage has to know how to do with a disk, so that an operation can move it without knowing what it lies in.

Each kind is one file of this folder and one line in `registry`. What stands here is right for most, and a kind says only what is otherwise with it.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Optional, Protocol

from ..._domain.definition import Disk
from ..._journal.records import Journal

Name = tuple[Optional[str], Optional[str]]
"""What a disk is called in a definition: its storage pool and the volume there, or nothing and its path."""


class Examined(NamedTuple):
    """A guest whose disks are looked at.

    :param root: its definition; :param directories: those of the host's images, below which alone one is opened.
    :param active: it runs, and writes to them; :param content_ids: finds those of layers, each of which lies on the next one.
    :param size: what libvirt says of the size of a disk, by its target.
    """

    conn: Any
    root: ET.Element
    directories: Sequence[str]
    active: bool
    content_ids: Callable[[Sequence[Any]], Sequence[Mapping[str, Any] | None]]
    size: Callable[[str], int | None]


class Claim(NamedTuple):
    """What the claim for an operation knows, by which disks of its source come to lie on this host.

    :param uuid: of the operation; :param allowed: the directories of this host in which files of guests may lie.
    :param probes: what the source has written where, by its own directories.
    """

    uuid: str
    allowed: Sequence[str]
    probes: Mapping[str, Any]


class Arrived(NamedTuple):
    """What has come of a disk, before it gets its name.

    :param part: where it lies; :param bases: sha256 of a base image -> its path on this host; :param key: what opens it, where it is encrypted.
    :param prove: whether a file of this host is a base image, looked for below directories; :param lacking: what room is lacking for all that has yet to come.
    """

    part: str
    bases: Mapping[str, str]
    key: bytes | None
    prove: Callable[[str, Mapping[str, Any], Sequence[str]], None]
    lacking: Callable[[], Sequence[object]]


class Kind(Protocol):
    """One kind."""

    source_types: tuple[str, ...] = ()
    """What the type of such a disk is in a definition."""
    by_path: bool = True
    """A definition names it by its path on this host."""
    travels: bool = True
    """It is copied to the destination, and is another one there; else both hosts have the same, which is here before the guest and stays after it."""
    makes_directories: bool = True
    """The directories of the guest that lead to it are made with it, and go with it."""

    # A disk of a definition.

    def is_empty(self, disk: Disk) -> bool:
        """Whether it is a drive with nothing in it."""
        return False

    def path(self, conn: Any, disk: Disk) -> str | None:
        """Where it is on this host; None for what is in no file here.

        :raises KvmfleetError: where that cannot be told.
        """
        return disk.path

    def path_if_known(self, conn: Any, disk: Disk) -> str | None:
        """The same for who asks about others' disks: None where it cannot be told, and no matter whether it could be used now."""
        return disk.path

    def facts(self, guest: Examined, disk: Disk) -> dict[str, Any]:
        """What a plan has to know beyond its definition: keys of the facts of a disk."""
        return {}

    def named(self, disk: Disk) -> Name | None:
        """What the definition calls it; None for what is in nothing that is told by a name."""
        return None if disk.path is None else (None, disk.path)

    def unfit(self, disk: Disk) -> str | None:
        """Why it cannot be a disk that a flavor grows or makes anew, such as an ephemeral one or swap."""
        return f"is of the type {disk.source_type}, not a file"

    def strange(self, root: ET.Element, requirements: Mapping[str, Any]) -> Iterator[str]:
        """What a definition that another host has handed over says of such disks, and the plan does not; of those that come here there is a record."""
        yield from ()

    # A disk of a record.

    def holds(self, disk: Mapping[str, Any]) -> bool:
        """Whether it is of this kind."""
        return False

    def here(self, conn: Any, disk: Mapping[str, Any], path: str | None) -> str:
        """Where a disk of the source would lie on this host.

        :param path: what the plan says of that; None where it does not know.
        :raises KvmfleetError: where this host has no place for it.
        """
        raise NotImplementedError

    def place(self, disk: dict[str, Any], here: str, claim: Claim) -> dict[str, Any]:
        """The record of a disk of the source as it comes to lie here, where it may."""
        raise NotImplementedError

    def called(self, disk: Mapping[str, Any], path: str) -> dict[str, Any]:
        """The record of a disk under another name."""
        return dict(disk, path=path, volume=None)

    def lacking(self, disk: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        """Code and sentence of what this host lacks to have it."""
        yield from ()

    def unreachable(self, requirements: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        """The same of disks that do not come here and are in no record, by the `requirements` of a plan; servers are asked, which may take seconds."""
        yield from ()

    def sync(self, conn: Any, disks: Sequence[Mapping[str, Any]]) -> None:
        """Let libvirt know which of these disks exist by now."""
        return

    def noted(self, disk: Mapping[str, Any]) -> Name:
        """What `named` says of the definition that it is to have."""
        return None, disk["path"]

    def define(self, root: ET.Element, disk: Mapping[str, Any], image_format: str | None = None) -> None:
        """Let a definition name it, in another format if one is given."""
        raise NotImplementedError

    def is_misnamed(self, disk: Mapping[str, Any]) -> bool:
        """Whether a definition names it by its path once a layer over it was merged, and that is not what it is called."""
        return False

    # The copy at the source.

    def sealed_path(self, record: Mapping[str, Any], disk: Mapping[str, Any]) -> str | None:
        """What it is called while the copy is sealed; None where it keeps its name, and stays when the copy is removed for good."""
        return None

    def rename(self, old: str, new: str) -> None:
        """Give it the name that it has while it is sealed, or its own again. `_storage.files` has asked who uses it."""
        raise NotImplementedError

    def remove(self, path: str) -> None:
        """Remove it for good. `_storage.files` has asked who uses it."""
        raise NotImplementedError

    def length(self, path: str) -> int:
        """How many bytes a copy of it has, holes included."""
        raise NotImplementedError

    # The copy at the destination.

    def rebase(self, journal: Journal, record: dict[str, Any], disk: Mapping[str, Any], arrived: Arrived) -> None:
        """Let what has come stand on this host's base, proven by content right now.

        :raises KvmfleetError: `base_missing` and those of `_storage.identity.require`.
        """
        raise NotImplementedError

    def adopt(self, journal: Journal, record: dict[str, Any], disk: Mapping[str, Any], arrived: Arrived) -> dict[str, Any]:
        """Make a disk of this host of it, of the size that the guest is to have, and prove that it is what the plan says.

        :returns: the record.
        :raises KvmfleetError: `chain_changed` and what images raise.
        """
        raise NotImplementedError

    def grow(self, path: str, disk: Mapping[str, Any], key: bytes | None) -> None:
        """Give it the size that the flavor has."""
        raise NotImplementedError
