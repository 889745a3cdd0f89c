# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A disk in anything else (a block device, a directory, NVMe): the table of references refuses it, and others may want to know where it is."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Mapping
from typing import Any, NoReturn

from ..._journal.records import Journal
from .kind import Arrived, Claim, Kind


class Other(Kind):
    """All that is told of it stands in the definition. No record has such a disk, so nobody asks what could be done with one."""

    def here(self, conn: Any, disk: Mapping[str, Any], path: str | None) -> NoReturn:
        raise _unasked(self)

    def place(self, disk: dict[str, Any], here: str, claim: Claim) -> NoReturn:
        raise _unasked(self)

    def define(self, root: ET.Element, disk: Mapping[str, Any], image_format: str | None = None) -> NoReturn:
        raise _unasked(self)

    def rename(self, old: str, new: str) -> NoReturn:
        raise _unasked(self)

    def remove(self, path: str) -> NoReturn:
        raise _unasked(self)

    def length(self, path: str) -> NoReturn:
        raise _unasked(self)

    def rebase(self, journal: Journal, record: dict[str, Any], disk: Mapping[str, Any], arrived: Arrived) -> NoReturn:
        raise _unasked(self)

    def adopt(self, journal: Journal, record: dict[str, Any], disk: Mapping[str, Any], arrived: Arrived) -> NoReturn:
        raise _unasked(self)

    def grow(self, path: str, disk: Mapping[str, Any], key: bytes | None) -> NoReturn:
        raise _unasked(self)


def _unasked(kind: Kind) -> TypeError:
    return TypeError(f"no record has a disk of the kind {type(kind).__name__}")
