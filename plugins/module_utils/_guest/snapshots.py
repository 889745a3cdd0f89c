# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Snapshots of a domain. Their data is in the images and travels with them; what libvirt knows of them goes with the definition and is defined anew.

An internal snapshot lies in the image of a disk. Of an external one the image that the guest wrote to before is a layer below that of now, which
travels as a base image does. Both are named by the definitions that a snapshot holds, so that these follow the files.
"""

from __future__ import annotations

import os
import xml.etree.ElementTree as ET
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

from .._domain import definition as _definition
from .._libvirt import definitions as _definitions
from .._rules.errors import KvmfleetError

_DISKS = ("disks/disk", "domain/devices/disk", "inactiveDomain/devices/disk")


def facts(domain: Any) -> list[dict[str, Any]]:
    """`name`, `current`, and `external`: whether a disk is in a file of its own since."""
    found = []
    for snapshot in _definitions.snapshots(domain, secure=False):
        root = _definition.parse_document(snapshot["xml"])
        external = root.find("disks/disk[@snapshot='external']") is not None
        found.append({"name": snapshot["name"], "current": snapshot["current"], "external": external})
    return found


def refusals(domain: Any, images: Collection[str]) -> Iterator[tuple[str, str]]:
    """Why a snapshot cannot be carried.

    :param images: resolved paths of all images of the guest as it is now, their layers included.
    """
    return _refusals(_definitions.snapshots(domain, secure=False), images)


def _refusals(snapshots: Sequence[Mapping[str, Any]], images: Collection[str]) -> Iterator[tuple[str, str]]:
    for snapshot in snapshots:
        name, root = snapshot["name"], _definition.parse_document(snapshot["xml"])
        memory = root.find("memory[@snapshot='external']")
        if memory is not None:
            yield "snapshot_memory", f"Snapshot {name} keeps the memory of the guest in the file {memory.get('file')}, which is not carried: delete it."
        for path in sorted({source.get("file", "") for source in sources(root)} - {""}):
            if os.path.realpath(path) not in images:
                yield (
                    "snapshot_elsewhere",
                    f"Snapshot {name} needs {path}, which is no image of the guest as it is now and is not carried: delete the snapshot.",
                )


def archive(domain: Any, record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """All of them, parents first: `name`, `xml` with passwords, `current`.

    :raises KvmfleetError: the code of the first refusal; somebody may have made one since the plan.
    """
    images = {layer[0] for disk in record["disks"] for layer in disk["chain"]} | {os.path.realpath(disk["path"]) for disk in record["disks"]}
    snapshots = _definitions.snapshots(domain)
    for code, reason in _refusals(snapshots, images):
        raise KvmfleetError(code, reason)
    return snapshots


def redefine(domain: Any, archived: Sequence[Mapping[str, Any]]) -> None:
    """Let libvirt know of them again; those that it knows are left alone."""
    known = {snapshot["name"] for snapshot in _definitions.snapshots(domain)} if archived else set()
    for snapshot in archived:
        if snapshot["name"] not in known:
            _definitions.redefine_snapshot(domain, snapshot["xml"], snapshot["current"])


def moved(archived: Sequence[Mapping[str, Any]], place: Callable[[str], str], adapt: Callable[[ET.Element], None] | None = None) -> list[dict[str, Any]]:
    """The same where images lie elsewhere: `place` tells the path of each. `adapt` edits each definition in a snapshot."""
    found = []
    for snapshot in archived:
        root = _definition.parse_document(snapshot["xml"])
        for source in sources(root):
            if path := source.get("file"):
                source.set("file", place(path))
        for definition in (*root.findall("domain"), *root.findall("inactiveDomain")) if adapt else ():
            adapt(definition)
        found.append({**snapshot, "xml": ET.tostring(root, encoding="unicode")})
    return found


def sources(root: ET.Element) -> Iterator[ET.Element]:
    """Of every disk and of the layers below it."""
    for select in _DISKS:
        for disk in root.findall(select):
            yield from disk.iter("source")
