# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Every reason why a guest cannot be moved as it is."""

from __future__ import annotations

import contextlib
import os
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from .._domain import (
    media as _media,
    references as _references,
)
from .._libvirt import blocks as _blocks
from .._rules.errors import KvmfleetError
from .._storage import (
    qemu_img as _qemu_img,
)
from .._storage.disk_use import DETACH, DiskUses
from .._system import paths as _paths, walking as _walking
from . import (
    handed_definition as _handed_definition,
    live_differences as _live_differences,
    power as _power,
)
from .belongings import registry as _belongings
from .belongings.belonging import Guest
from .disks import BOOT_FILE


def refusals(guest: Guest, uses: DiskUses, facts: dict[str, Any], live: ET.Element, directories: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Code and sentence of each.

    :param facts: of `_guest.facts`; :param live: what runs.
    :param directories: those of the host's images.
    """
    domain = guest.domain
    yield from _of_guest(domain, facts, guest.root, live, directories)
    yield from _of_files(facts, directories)
    for job in _blocks.block_jobs(domain):
        yield "block_job_active", f"A block job works on a disk of the guest ({job}): let it end, or abort it."
    yield from _used_by_others(uses, facts)
    for kind in _belongings.ALL:
        yield from kind.refusals(guest, facts, directories)


def _of_guest(domain: Any, facts: dict[str, Any], root: ET.Element, live: ET.Element, directories: Sequence[str]) -> Iterator[tuple[str, str]]:
    active = facts["state"] != "shutoff"
    if not facts["persistent"]:
        yield "not_persistent", "The domain is transient: it vanishes when it stops. Define it first."
    if facts["managed_save"]:
        yield "managed_save", _power.SAVED
    if facts["virt_type"] not in _handed_definition.VIRT_TYPES:
        yield "unsupported_virt_type", f"The domain has the type {facts['virt_type']!r}; {' and '.join(_handed_definition.VIRT_TYPES)} can be moved."
    for target, defined, used in _live_differences.moved_disks(domain.connect(), live, root):
        yield "definition_differs", f"Disk {target} is {defined} in the definition, but the guest writes to {used}."
    if not any(disk["root"] for disk in facts["disks"]):
        yield "no_root_disk", "The domain has no writable disk that could be its root disk."
    for reference in facts["references"]:
        if reference["answer"] == _references.REFUSE:
            disk = next((disk for disk in facts["disks"] if disk["path"] == reference["name"]), None)
            code, target = f"unsupported_{reference['kind']}", f"Disk {disk['target']}, " if disk else ""
            way_out = _media.way_out(facts["name"], disk, code, directories, active=active) if disk else ""
            yield code, f"{target}{reference['name']}: {reference['reason']} ({reference['element']}).{way_out}"


def _of_files(facts: dict[str, Any], directories: Sequence[str]) -> Iterator[tuple[str, str]]:
    active = facts["state"] != "shutoff"
    for disk in facts["disks"] + facts["boot_files"]:
        if "error" in disk:
            code, what = disk["error"]["code"], "File" if disk["device"] == BOOT_FILE else "Disk"
            yield code, f"{what} {disk['target']}: {disk['error']['message']}{_media.way_out(facts['name'], disk, code, directories, active=active)}"
        yield from _image_refusals(disk, active)
    yield from _name_refusals(facts)
    yield from _link_refusals(disk["path"] for disk in facts["disks"] if disk["path"])


def _link_refusals(disks: Iterable[str]) -> Iterator[tuple[str, str]]:
    """What the writer will not touch."""
    for directory in dict.fromkeys(os.path.dirname(path) for path in disks):
        try:
            with contextlib.suppress(OSError), _walking.directory(directory):
                pass
        except KvmfleetError as exc:
            yield exc.code, exc.message


def _name_refusals(facts: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """A name that an operation cannot append anything to: the destination asks its own filesystems again."""
    paths = [disk["path"] for disk in facts["disks"] + facts["boot_files"]] + _belongings.paths(facts)
    for name in map(_paths.too_long, dict.fromkeys(filter(None, paths))):
        if name is not None:
            yield "name_too_long", f"{name}."


def _used_by_others(uses: DiskUses, facts: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """What others need of what the guest has to itself. What it only reads, or shares by its definition, stays where it is."""
    own = [disk["path"] for disk in facts["disks"] if disk["device"] == "disk" and not (disk["readonly"] or disk["shareable"]) and disk["path"]]
    for path, found in uses.of([*own, *_belongings.own_paths(facts)], guest=facts["uuid"]).items():
        yield "disk_in_use_by", f"{path} is used by {', '.join(dict.fromkeys(use.who for use in found))}. {DETACH}"


def _image_refusals(disk: dict[str, Any], active: bool) -> Iterator[tuple[str, str]]:
    layers = disk.get("chain", ())
    # An image with lazy refcounts that a guest writes to is dirty until QEMU closes it.
    for layer in layers[1:] if active else layers:
        if layer["dirty"]:
            yield "image_dirty", f"Disk {disk['target']}: {_qemu_img.DIRTY.format(path=layer['path'])}"
    if len(layers) > 1 and (disk["readonly"] or disk["device"] != "disk"):
        yield (
            "readonly_layers",
            f"Disk {disk['target']} is read-only and has {len(layers)} layers; what a guest only reads is carried byte for byte, without a base image: "
            "convert it to one file (qemu-img convert).",
        )
    if disk["encrypted"] and len(layers) > 1:
        yield "encrypted_layers", f"Disk {disk['target']} is encrypted and has {len(layers)} layers: convert it to one file (qemu-img convert)."
    if disk["encrypted"] and layers and layers[0]["format"] != "raw" and not layers[0]["encrypted"]:
        yield "image_not_encrypted", f"Disk {disk['target']}: {layers[0]['path']} is not encrypted, and the definition says that it is."
    for layer in layers:
        if layer["encrypted"] and not disk["encrypted"]:
            yield "image_encrypted", f"Disk {disk['target']}: {layer['path']} is encrypted, and the definition names no secret for it."
        if layer["corrupt"]:
            yield "image_corrupt", f"Disk {disk['target']}: {layer['path']} is marked corrupt; repair it (qemu-img check -r) first."
