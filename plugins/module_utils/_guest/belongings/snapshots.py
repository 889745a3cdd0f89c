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

from ..._domain import definition as _definition, edit as _edit
from ..._libvirt import definitions as _definitions
from ..._rules.errors import KvmfleetError, shown
from ..._rules.value_kinds import FLAG, LABEL, TEXT
from ..._rules.values import Each
from ..._storage.kinds import registry as _kinds
from .belonging import Belonging, Guest, Here

_DISKS = ("disks/disk", "domain/devices/disk", "inactiveDomain/devices/disk")


class Snapshots(Belonging):
    name = "snapshots"
    form = Each({"name": LABEL, "xml": TEXT, "current": FLAG})
    with_definition = True

    def facts(self, guest: Guest) -> dict[str, Any]:
        return {self.name: facts(guest.domain)}

    def refusals(self, guest: Guest, facts: Mapping[str, Any], directories: Sequence[str]) -> Iterator[tuple[str, str]]:
        return refusals(guest.domain, {layer["path"] for disk in facts["disks"] for layer in disk.get("chain", ())})

    def unlayered(self, facts: Mapping[str, Any]) -> Iterator[str]:
        if facts[self.name]:
            yield f"it has snapshots ({len(facts[self.name])}), which a layer would hide"

    def archive(self, domain: Any, record: Mapping[str, Any]) -> list[dict[str, Any]]:
        return archive(domain, record)

    def offer(self, conn: Any, record: Mapping[str, Any]) -> list[dict[str, Any]]:
        return moved(record["private"].get(self.name, []), os.path.realpath)

    def redefine(self, domain: Any, archived: Any) -> None:
        redefine(domain, archived)

    def arrived(self, record: Mapping[str, Any], given: Any, here: Here) -> list[dict[str, Any]]:
        """With the paths and names that things have on this host, provided that they may be defined here."""
        paths = {disk["chain"][0][0]: disk["path"] for disk in record["disks"]}
        paths.update({base["path"]: here.bases.get(base["sha256"], base["path"]) for base in _bases(record, travelling=True)})
        mappings = record.get("mappings", {})
        found = moved(given, lambda path: paths.get(path, path), lambda root: _edit.map_names(root, mappings))
        formats = {paths.get(base["path"], base["path"]): base["format"] for base in _bases(record)}
        judge(found, record, {**formats, **{disk["path"]: disk["format"] for disk in record["disks"]}}, here)
        return found


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


def judge(snapshots: Sequence[Mapping[str, Any]], record: Mapping[str, Any], images: Mapping[str, str], here: Here) -> None:
    """Whether the definitions that snapshots hold, which a person may go back to, may be on this host: an older guest, of files that this one has.

    :param images: files of this host that are images of the guest, its base images included, with their formats.
    :raises KvmfleetError: `definition_refused`.
    """
    for snapshot in snapshots:
        root = _definition.parse_document(snapshot["xml"])
        reasons = [] if root.tag == "domainsnapshot" and root.findtext("name") == snapshot["name"] else ["it is no snapshot of that name"]
        reasons += [f"it keeps memory in the file {shown(memory.get('file', ''))}" for memory in root.findall("memory[@file]")]
        for source in sources(root):
            named = [path for path in (source.get("file"), source.get("dev")) if path]
            reasons += [f"it names {shown(path)}, which is no image of the guest" for path in named if path not in images]
        wholes = [_whole(definition) for definition in (*root.findall("domain"), *root.findall("inactiveDomain"))]
        reasons += [reason for whole in wholes for reason in _foreign_files(whole, record, images)]
        here.require(f"its snapshot {shown(snapshot['name'])}", wholes, reasons)


def _whole(definition: ET.Element) -> ET.Element:
    whole = ET.Element("domain", definition.attrib)
    whole.extend(list(definition))
    return whole


def _foreign_files(whole: ET.Element, record: Mapping[str, Any], images: Mapping[str, str]) -> Iterator[str]:
    """What an older definition opens that the guest does not have, or otherwise than the guest does."""
    files = _definition.boot_files(whole).values()
    yield from (f"it boots from {shown(path)}, which is no file of the guest" for path in files if path not in images)
    planned = {(_kinds.of(disk).noted(disk), disk["format"]) for disk in record["disks"]}
    for disk in _definition.disks(whole):
        kind = _kinds.named(disk)
        name = None if kind.by_path else kind.named(disk)
        if disk.path is not None and disk.path in images and disk.format != images[disk.path]:
            yield f"it opens {shown(disk.path)} in the format {shown(disk.format)}, not {images[disk.path]}"
        if name and (name, disk.format) not in planned:
            yield f"its volume {shown(str(name[1]))} is none of the plan"


def _bases(record: Mapping[str, Any], *, travelling: bool = False) -> list[dict[str, Any]]:
    """The base images of all disks, or of those that are not on storage that both hosts share."""
    return [base for disk in record["disks"] if not travelling or _kinds.of(disk).travels for base in disk["bases"]]


def sources(root: ET.Element) -> Iterator[ET.Element]:
    """Of every disk and of the layers below it."""
    for select in _DISKS:
        for disk in root.findall(select):
            yield from disk.iter("source")
