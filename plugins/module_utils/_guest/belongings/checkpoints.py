# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Checkpoints, from which a backup program makes its next incremental backup: what libvirt knows of them, and a bitmap of each in the image of a disk.

The bitmaps travel with the images, which are copied as they are; a layer would leave them below. One that QEMU has not closed is broken, and nobody may be
told otherwise: it is refused, here as at the destination.
"""

from __future__ import annotations

import os
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ..._domain import definition as _definition
from ..._libvirt import checkpoints as _checkpoints, definitions as _definitions, domains as _domains
from ..._rules.errors import KvmfleetError, shown
from ..._rules.value_kinds import COUNT, LABEL, TARGET, TEXT
from ..._rules.values import Each, Named, Null
from ..._storage import disk_use as _disk_use, qemu_img as _qemu_img
from ..._storage.incoming import part_path, travelling
from .belonging import Belonging, Claim, Guest, Here, Reason


class Checkpoints(Belonging):
    name = "checkpoints"
    form = Each({"name": LABEL, "description": Null(TEXT), "created": COUNT, "parent": Null(LABEL), "bitmaps": Named(TARGET, LABEL)})
    with_definition = True

    def facts(self, guest: Guest) -> dict[str, Any]:
        found = known(guest.domain)
        return {"has_checkpoints": bool(found), self.name: [{"name": one["name"], "disks": sorted(one["bitmaps"])} for one in found]}

    def refusals(self, guest: Guest, facts: Mapping[str, Any], directories: Sequence[str]) -> Iterator[tuple[str, str]]:
        """Images are opened only where they may be, which the facts of the disks say."""
        images = {disk["target"]: disk["chain"][0]["path"] for disk in facts["disks"] if disk.get("chain") and disk["format"] == "qcow2"}
        for sentence in _broken(guest.domain, images):
            yield "checkpoint_broken", sentence

    def unlayered(self, facts: Mapping[str, Any]) -> Iterator[str]:
        if facts[self.name]:
            yield f"it has checkpoints ({len(facts[self.name])}), whose bitmaps would stay below a layer"

    def not_in_place(self, facts: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        if facts[self.name]:
            yield "has_checkpoints", _IN_PLACE.format(name=facts["name"])

    def require_layerable(self, domain: Any) -> None:
        if known(domain):
            message = f"A checkpoint of {domain.name()} was made since the operation was planned, and a layer would come over its bitmaps: plan it again."
            raise KvmfleetError("has_checkpoints", message, instance=domain.name())

    def reasons(self, claim: Claim, record: Mapping[str, Any]) -> Iterator[Reason]:
        domain = _domains.find_domain(claim.conn, record["instance_uuid"]) if record["role"] == "in_place" else None
        if domain is not None and known(domain):
            yield Reason("has_checkpoints", _IN_PLACE.format(name=record["instance_name"]))

    def archive(self, domain: Any, record: Mapping[str, Any]) -> list[dict[str, Any]]:
        xml = _definitions.inactive_xml(domain, secure=False)
        images = {disk["target"]: _disk_use.place(domain.connect(), xml, disk["target"]) for disk in record["disks"] if disk["format"] == "qcow2"}
        for sentence in _broken(domain, images):
            raise KvmfleetError("checkpoint_broken", sentence, instance=domain.name())
        return known(domain)

    def offer(self, conn: Any, record: Mapping[str, Any]) -> list[dict[str, Any]]:
        gone = {disk["target"] for disk in record["disks"] if disk.get("left_behind")}
        return without_disks(record["private"].get(self.name) or [], gone)

    def arrived(self, record: Mapping[str, Any], given: Any, here: Here) -> list[dict[str, Any]]:
        targets = {disk["target"] for disk in record["disks"] if disk["kind"] == "disk" and disk["format"] == "qcow2"}
        names: list[str] = []
        for one in given:
            strangers = [f"it is about the disk {target}, which is none of the plan" for target in sorted(set(one["bitmaps"]) - targets)]
            strangers += ["its name is not its own"] if one["name"] in names else []
            strangers += [] if one["parent"] in (None, *names) else [f"its parent {shown(one['parent'])} is none before it"]
            here.require(f"its checkpoint {shown(one['name'])}", (), strangers)
            names.append(one["name"])
        return list(given)

    def tried(self, trial: Any, kept: Any) -> None:
        redefine(trial, kept)

    def received(self, record: Mapping[str, Any], kept: Any) -> None:
        """Each bitmap has come, and is valid in the image as it is now."""
        coming = {disk["target"] for disk in travelling(dict(record))}
        for disk in record["disks"]:
            path = part_path(dict(record), disk["path"]) if disk["target"] in coming else disk["path"]
            wanted = {one["bitmaps"][disk["target"]] for one in kept or () if disk["target"] in one["bitmaps"]}
            lost = sorted(wanted - _valid(path)) if wanted else []
            if lost:
                message = f"The copy of {disk['target']} has no valid bitmap {', '.join(map(shown, lost))}, which checkpoints of the guest need."
                raise KvmfleetError("checkpoint_broken", message, path=path, need=lost)

    def redefine(self, domain: Any, archived: Any) -> None:
        redefine(domain, archived)


_IN_PLACE = (
    "{name} has checkpoints, and a resize in place would lay files over its disks, so that their bitmaps would not know what it writes. Resize it to another "
    "host: set allow_resize_to_same_host to false (in roles: resize_allow_resize_to_same_host), or name a target_host. Or delete them (virsh "
    "checkpoint-delete), and make a full backup afterwards."
)


def known(domain: Any) -> list[dict[str, Any]]:
    """All of them, parents first: `name`, `description`, `created` (Unix seconds), `parent`, and `bitmaps` by disk."""
    return [_told(_definition.parse_document(xml)) for xml in _checkpoints.checkpoints(domain)]


def redefine(domain: Any, archived: Sequence[Mapping[str, Any]]) -> None:
    """Let libvirt know of them again, for the domain as it is defined now; those that it knows are left alone."""
    there = {one["name"] for one in known(domain)}
    for one in archived:
        if one["name"] not in there:
            _checkpoints.redefine_checkpoint(domain, _written(one, _definitions.inactive_xml(domain, secure=False)))


def without_disks(checkpoints: Sequence[Mapping[str, Any]], gone: set[str]) -> list[dict[str, Any]]:
    """The same for a guest that goes on without some disks; of one that is about nothing else, its parent takes the place."""
    instead: dict[str | None, str | None] = {}
    found = []
    for one in checkpoints:
        bitmaps = {target: bitmap for target, bitmap in one["bitmaps"].items() if target not in gone}
        parent = instead.get(one["parent"], one["parent"])
        if bitmaps:
            found.append({**one, "bitmaps": bitmaps, "parent": parent})
        else:
            instead[one["name"]] = parent
    return found


def _told(root: ET.Element) -> dict[str, Any]:
    disks = root.findall("disks/disk[@checkpoint='bitmap']")
    return {
        "name": root.findtext("name", ""),
        "description": root.findtext("description"),
        "created": int(root.findtext("creationTime", "0")),
        "parent": root.findtext("parent/name"),
        "bitmaps": {disk.get("name", ""): disk.get("bitmap") or root.findtext("name", "") for disk in disks},
    }


def _written(one: Mapping[str, Any], domain_xml: str) -> str:
    """As libvirt writes it, made anew: nothing of what another host says of it is handed to libvirt but these values."""
    root = ET.Element("domaincheckpoint")
    ET.SubElement(root, "name").text = one["name"]
    if one["description"] is not None:
        ET.SubElement(root, "description").text = one["description"]
    if one["parent"] is not None:
        ET.SubElement(ET.SubElement(root, "parent"), "name").text = one["parent"]
    ET.SubElement(root, "creationTime").text = str(one["created"])
    disks = ET.SubElement(root, "disks")
    for target, bitmap in one["bitmaps"].items():
        ET.SubElement(disks, "disk", {"name": target, "checkpoint": "bitmap", "bitmap": bitmap})
    root.append(_definition.parse_document(domain_xml))
    return ET.tostring(root, encoding="unicode")


def _broken(domain: Any, images: Mapping[str, str | None]) -> Iterator[str]:
    """A sentence for each that is not valid for some disk.

    :param images: the image of each disk that may be looked at while the guest is off; while it runs, QEMU alone knows.
    """
    if _domains.is_active(domain):
        for root in map(_definition.parse_document, _checkpoints.checkpoints(domain, sized=True)):
            targets = [disk.get("name", "") for disk in root.findall("disks/disk[@checkpoint='bitmap']") if disk.get("size") is None]
            yield from _sentence(domain, root.findtext("name", ""), targets)
        return
    valid = {target: _valid(path) for target, path in images.items() if path is not None and os.path.exists(path)}
    for one in known(domain):
        yield from _sentence(domain, one["name"], [target for target, bitmap in one["bitmaps"].items() if bitmap not in valid.get(target, {bitmap})])


def _sentence(domain: Any, name: str, targets: Sequence[str]) -> Iterator[str]:
    if targets:
        yield (
            f"Checkpoint {name} of {domain.name()} is broken: its bitmap of {', '.join(targets)} is missing or was not closed cleanly (a crash of QEMU or of "
            f"the host), so that no incremental backup can be made from it, here or elsewhere. Delete it while the guest runs (virsh checkpoint-delete "
            f"{domain.name()} {name}), repeat this, and make a full backup."
        )


def _valid(path: str) -> set[str]:
    """The bitmaps of an image that nothing has open, which say what has changed."""
    return {name for name, sound in _qemu_img.bitmaps(path).items() if sound}
