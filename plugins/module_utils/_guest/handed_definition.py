# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The definition that another host has handed over, as it is about to be defined here: whether it is that of the plan, and may be on this host.

The table that refuses at the source (`_domain.references`) refuses here too, since only here it cannot be passed by. What the guest takes along has to be
exactly the files of the record, which `_storage.places` has judged; what it is to find here, exactly what the claim was asked for.
"""

from __future__ import annotations

import os
import stat
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from .._domain import definition as _definition, references as _references, referring as _referring
from .._rules import exclusive as _exclusive
from .._rules.errors import KvmfleetError, shown
from .._storage import qemu_img as _qemu_img
from .._storage.kinds import registry as _kinds
from .belongings import registry as _belongings

VIRT_TYPES = ("kvm", "qemu")
_ONCE = {
    "": ("name", "uuid", "os", "devices", "metadata", "vcpu", "memory", "currentMemory"),
    "os": ("loader", "nvram", "kernel", "initrd", "dtb", "varstore"),
    "devices": ("emulator",),
    "devices/disk": ("source", "target", "driver", "backingStore", "mirror"),
    "devices/interface": ("source", "mac"),
}
"""What a definition has once at most in each of its parents: else two readers might see two definitions."""
_PLUGGED = {"network": "networks", "bridge": "bridges"}


def require(root: ET.Element, record: Mapping[str, Any]) -> None:
    """:raises KvmfleetError: `definition_refused`, with every reason."""
    _refuse(record, "its definition", [*_identity(root, record), *_common(root, record), *_disks(root, record), *_around(root, record)])


def require_part(record: Mapping[str, Any], what: str, definitions: Iterable[ET.Element], reasons: Sequence[str]) -> None:
    """The same for definitions in something else that was handed over, such as older ones of the guest.

    :param what: they are in, to say so; :param reasons: what is wrong with it besides.
    :raises KvmfleetError: `definition_refused`.
    """
    _refuse(record, what, [*reasons, *(reason for definition in definitions for reason in _common(definition, record))])


def _refuse(record: Mapping[str, Any], what: str, reasons: Sequence[str]) -> None:
    if reasons:
        raise KvmfleetError(
            "definition_refused",
            f"{record['source_host']} hands over {record['instance_name']}, and this host does not take {what}: {'; '.join(dict.fromkeys(reasons))}.",
            reasons=list(dict.fromkeys(reasons)),
        )


def _identity(root: ET.Element, record: Mapping[str, Any]) -> Iterator[str]:
    """Whether it is the domain of the record, which may not get in the place of another one."""
    for tag, key in (("name", "instance_name"), ("uuid", "instance_uuid")):
        if root.findtext(tag) != record[key]:
            yield f"its {tag} is {shown(repr(root.findtext(tag)))}, not {record[key]}"
    if root.get("type") not in VIRT_TYPES:
        yield f"its type is {shown(repr(root.get('type')))}, not {' or '.join(VIRT_TYPES)}"


def _common(root: ET.Element, record: Mapping[str, Any]) -> Iterator[str]:
    for where, names in _ONCE.items():
        for parent in root.findall(where) if where else (root,):
            tags = [child.tag for child in parent]
            yield from (f"it has more than one <{name}> in <{parent.tag}>" for name in names if tags.count(name) > 1)
    for reference in _referring.references(root):
        if reference.answer == _references.REFUSE:
            yield f"{shown(reference.name)}: {reference.reason} ({reference.element})"
    firmware = _definition.firmware(root)
    emulator = root.findtext("devices/emulator")
    for what, path, mode in (
        ("firmware", firmware.loader, os.R_OK),
        ("template of firmware variables", firmware.nvram_template, os.R_OK),
        ("emulator", emulator, os.X_OK),
    ):
        if path is not None and (not is_public(path, mode) or _qemu_img.may_lie(os.path.realpath(path), record.get("image_directories") or ())):
            yield f"its {what} is {shown(path)}, which is no file of root's here, beside those of guests, that everybody may use and nobody else write"
    for kind in _belongings.ALL:
        yield from kind.strange(root, record)


def _disks(root: ET.Element, record: Mapping[str, Any]) -> Iterator[str]:
    """Whether the files that it names are those of the record, each in the format that they were judged in."""
    expected = {disk["target"]: disk for disk in (*record["disks"], *(record.get("new_disks") or ()))}
    boot = {target: expected.pop(target)["path"] for target in _definition.BOOT_FILES if target in expected}
    if _definition.boot_files(root) != boot:
        yield f"it boots from {_listed(_definition.boot_files(root))}, not from {_listed(boot)}"
    found = [(disk, name) for disk in _definition.disks(root) if (name := _kinds.named(disk).named(disk))]
    for disk, name in found:
        known, place = expected.pop(disk.target, None), shown(str(disk.path or name[1]))
        if known is None:
            yield f"its disk {shown(disk.target)}, {place}, is none of the plan"
        elif (name, disk.format) != (_kinds.of(known).noted(known), known["format"]):
            yield f"its disk {disk.target} is {place} in the format {shown(disk.format)}, not {known['path']} in the format {known['format']}"
    yield from (f"it has no disk {target}" for target in expected)
    for select in ("devices/disk//backingStore//source", "devices/disk//mirror//source"):
        for source in root.findall(select):
            yield f"it names the image {shown(str(source.get('file') or source.attrib))} below a disk, which only the headers of images do"


def _around(root: ET.Element, record: Mapping[str, Any]) -> Iterator[str]:
    """Whether it needs what the claim was asked for, as this host calls it; a record of an older release does not tell."""
    need = record.get("requirements")
    if need is None:
        return
    for nic in root.findall("devices/interface"):
        kind, source = nic.get("type", ""), nic.find("source")
        name = None if source is None else source.get(kind)
        if kind in _PLUGGED and name is not None and name not in need[_PLUGGED[kind]]:
            yield f"it is plugged into the {kind} {shown(name)}, which is none of the plan"
    planned = set(_exclusive.wanted(need))
    asked = {*_exclusive.KINDS} if "exclusive" in need else {_exclusive.MAC}  # a plan of an older release tells of these alone
    for thing in _exclusive.things(root, lasting=True):
        if thing.kind in asked and thing not in planned:
            yield f"it has {_exclusive.KINDS[thing.kind].what} {shown(thing.value)}, which is none of the plan"
    firmware = _definition.firmware(root)
    has = {"emulator": root.findtext("devices/emulator"), "loader": firmware.loader, "nvram_template": firmware.nvram_template}
    yield from (f"its {name} is {shown(value)}, not {need[name]}" for name, value in has.items() if value is not None and value != need[name])
    yield from _kinds.strange(root, need)


def is_public(path: str, mode: int = os.R_OK) -> bool:
    """Whether a file is one that root has put here for everybody, so that no other host could, and so that it holds nothing secret; or is not here.

    :param mode: what everybody may do with it, `os.R_OK` or `os.X_OK`.
    """
    real = os.path.realpath(path)
    found = [os.stat(place) for place in (real, *_parents(real)) if os.path.exists(place)]
    if not os.path.isabs(path) or (os.path.exists(real) and not (stat.S_ISREG(found[0].st_mode) and found[0].st_mode & mode)):
        return False
    return not any(item.st_uid or item.st_mode & stat.S_IWOTH or (item.st_gid and item.st_mode & stat.S_IWGRP) for item in found)


def _parents(path: str) -> Iterator[str]:
    while path != "/":
        path = os.path.dirname(path)
        yield path


def _listed(files: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {shown(path)}" for name, path in files.items()) or "no file"
