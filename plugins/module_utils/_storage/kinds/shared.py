# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A disk of any kind in a directory that both hosts see: it is at the destination already, and stays what it is and where it is.

Whether it is one is found out by the claim (`_storage.shared_storage`), and stands in the record of both hosts from then on. Records of one without are of a
disk that travels.
"""

from __future__ import annotations

import os
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from typing import Any

from ..._journal.records import Journal
from ..._rules.errors import KvmfleetError
from .. import qemu_img as _qemu_img, shared_storage as _shared_storage
from .kind import Arrived, Claim, Kind, Name


def is_here(disk: Mapping[str, Any], here: str, claim: Claim) -> bool:
    """Whether a disk of the source, which would lie `here`, lies there by now, since this host sees the directory of the source."""
    return _shared_storage.sees(os.path.dirname(here), claim.probes.get(os.path.dirname(disk["path"])))


class Shared(Kind):
    """What it is called is for the kind to say that it is besides.

    :param below: that kind.
    """

    travels = False
    makes_directories = False

    def __init__(self, below: Kind) -> None:
        self._below = below

    def noted(self, disk: Mapping[str, Any]) -> Name:
        return self._below.noted(disk)

    def define(self, root: ET.Element, disk: Mapping[str, Any], image_format: str | None = None) -> None:
        self._below.define(root, disk, image_format)

    def is_misnamed(self, disk: Mapping[str, Any]) -> bool:
        return self._below.is_misnamed(disk)

    def called(self, disk: Mapping[str, Any], path: str) -> dict[str, Any]:
        return self._below.called(disk, path)

    def here(self, conn: Any, disk: Mapping[str, Any], path: str | None) -> str:
        return self._below.here(conn, disk, path)

    def rename(self, old: str, new: str) -> None:
        self._below.rename(old, new)

    def remove(self, path: str) -> None:
        self._below.remove(path)

    def length(self, path: str) -> int:
        return self._below.length(path)

    def place(self, disk: dict[str, Any], here: str, claim: Claim) -> dict[str, Any]:
        """Nothing may have to be changed in it.

        :raises KvmfleetError: `shared_growth`, `base_not_shared` and what `_storage.qemu_img.chain` raises.
        """
        if disk["grow_to"]:
            raise KvmfleetError(
                "shared_growth",
                f"{disk['target']}, {here}, lies on storage that the source shares with this host; growing it could not be reverted. Resize in place "
                "(allow_resize_to_same_host), or take a flavor with the same disk.",
                target=disk["target"],
            )
        for path in (base["path"] for base in disk["bases"]):
            directory = os.path.dirname(path)
            if not _qemu_img.may_lie(path, claim.allowed) or not _shared_storage.sees(directory, claim.probes.get(directory)):
                raise KvmfleetError(
                    "base_not_shared",
                    f"{disk['target']}, {here}, lies on storage that the source shares with this host, but its base image {path} does not lie "
                    "there under the same path.",
                    target=disk["target"],
                )
        _qemu_img.chain(here, disk["format"], claim.allowed, force_share=True)
        return dict(disk, path=here, shared=True)

    def rebase(self, journal: Journal, record: dict[str, Any], disk: Mapping[str, Any], arrived: Arrived) -> None:
        """It stands on what it stood on."""

    def grow(self, path: str, disk: Mapping[str, Any], key: bytes | None) -> None:
        self._below.grow(path, disk, key)

    def adopt(self, journal: Journal, record: dict[str, Any], disk: Mapping[str, Any], arrived: Arrived) -> dict[str, Any]:
        """It is free, so the source's QEMU is off, and what the plan says of it holds here too."""
        _qemu_img.assert_not_in_use(disk["path"], disk["format"])
        layers = [[layer.path, layer.format, layer.virtual_size] for layer in _qemu_img.chain(disk["path"], disk["format"], record["image_directories"])]
        if layers[0][1:] != disk["chain"][0][1:] or layers[1:] != disk["chain"][1:]:
            raise KvmfleetError(
                "chain_changed", f"The backing chain of {disk['path']} is {layers} here; it was {disk['chain']} when the operation was planned."
            )
        return record
