# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The kinds of storage: a line for each."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping
from typing import Any

from ..._domain.definition import Disk
from .file import File
from .kind import Kind
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
    return next(kind for kind in ALL if kind.holds(disk))


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
