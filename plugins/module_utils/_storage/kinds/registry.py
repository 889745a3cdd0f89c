# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The kinds of storage: a line for each. A disk of any of them may be on storage that two hosts share besides."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ..._domain.definition import Disk
from .. import qemu_img as _qemu_img
from . import shared as _shared
from .file import File
from .kind import Claim, Kind
from .network import Network
from .other import Other
from .volume import Volume

ALL: tuple[Kind, ...] = (
    Volume(),
    Network(),
    File(),
)
_OTHER = Other()


def named(disk: Disk) -> Kind:
    """What a definition says that a disk lies in."""
    return next((kind for kind in ALL if disk.source_type in kind.source_types), _OTHER)


def of(disk: Mapping[str, Any]) -> Kind:
    """What a disk of a record, or of the facts of a guest, lies in."""
    kind = _own(disk)
    return _shared.Shared(kind) if disk.get("shared") else kind


def place(conn: Any, disk: dict[str, Any], path: str | None, claim: Claim) -> dict[str, Any]:
    """The record of a disk of the source as it comes to lie on this host.

    :param path: what the plan says of that; None where it does not know.
    :raises KvmfleetError: where there is no place for it.
    """
    kind = _own(disk)
    here = kind.here(conn, disk, path)
    if not _qemu_img.may_lie(here, claim.allowed):
        return dict(disk, path=here)  # which the admission refuses; nothing is looked at there
    return (_shared.Shared(kind) if _shared.is_here(disk, here, claim) else kind).place(disk, here, claim)


def unfit(disk: Disk) -> str | None:
    """Why a disk of a definition cannot be one that a flavor grows or makes anew."""
    return named(disk).unfit(disk)


def define(root: ET.Element, disk: Mapping[str, Any], image_format: str | None = None) -> None:
    """Let a definition name a disk of a record, in another format if one is given."""
    of(disk).define(root, disk, image_format)


def strange(root: ET.Element, requirements: Mapping[str, Any]) -> Iterator[str]:
    """What a definition that another host has handed over says of disks that stay where they are, and the plan does not."""
    for kind in ALL:
        yield from kind.strange(root, requirements)


def unreachable(requirements: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Code and sentence of what this host lacks to use the disks that stay where they are."""
    return [reason for kind in ALL for reason in kind.unreachable(requirements)]


def sync(conn: Any, disks: Iterable[Mapping[str, Any]]) -> None:
    """Let libvirt know which of these disks exist by now."""
    there = list(disks)
    for kind in ALL:
        kind.sync(conn, [disk for disk in there if _own(disk) is kind])


def _own(disk: Mapping[str, Any]) -> Kind:
    return next(kind for kind in ALL if kind.holds(disk))
