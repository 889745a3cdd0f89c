# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a UEFI guest keeps in the variables of its firmware: boot entries, the keys of secure boot.

They lie in a small file of their own, in a directory of QEMU's user and under a name that the next guest of that name would take for its own. So they are
sealed with the disks of a source copy. In place, where the guest goes on writing to them, a copy is kept, which the journal knows as complete.
"""

from __future__ import annotations

import contextlib
import os
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from ..._domain import definition as _definition, edit as _edit
from ..._journal.records import Journal
from ..._rules import file_names as _file_names
from ..._rules.errors import KvmfleetError, shown
from ..._rules.value_kinds import NVRAM_DIRECTORY, variables_below
from ..._storage import files as _files, qemu_img as _qemu_img
from ..._storage.disk_use import DiskUses
from ..._storage.incoming import NVRAM, part_path, shortage_for
from ..._system import paths as _paths, whole_file as _whole_file
from .belonging import Belonging, Claim, Guest, OwnFile, Reason

_FORMATS = {"fd": "raw", "qcow2": "qcow2"}


class FirmwareVariables(Belonging):
    name = NVRAM

    def facts(self, guest: Guest) -> dict[str, Any]:
        return {"firmware": asdict(found(guest.domain.name(), guest.live))}

    def refusals(self, guest: Guest, facts: Mapping[str, Any], directories: Sequence[str]) -> Iterator[tuple[str, str]]:
        path, allowed = facts["firmware"]["nvram"], variables_below(directories)
        if path and not _qemu_img.may_lie(path, allowed):
            yield (
                "image_outside_directories",
                f"The firmware variables {path} lie in none of the directories {', '.join(allowed)}, or behind a link there: add "
                "their directory to kvmfleet_image_directories on all hosts, or move them and say so in the definition (virsh edit, <nvram>).",
            )
        if path:
            yield from link_refusals(path)

    def files(self, told: Mapping[str, Any], directories: Sequence[str]) -> Iterator[OwnFile]:
        path = told["firmware"]["nvram"] if "firmware" in told else told.get("nvram")
        if path:
            yield OwnFile(path, variables_below(directories), NVRAM, own=True)

    def reasons(self, claim: Claim, record: Mapping[str, Any]) -> Iterator[Reason]:
        """In place a copy of them is kept, for which the guest is not to be stopped in vain."""
        path = record.get("nvram") if record["role"] == "in_place" else None
        short = shortage_for(claim.journal, os.path.dirname(path), os.stat(path).st_size) if path and os.path.exists(path) else None
        if short:
            yield Reason("no_space", f"no copy of the firmware variables can be kept: {short}", short.numbers())

    def seal(self, record: Mapping[str, Any]) -> dict[str, Any]:
        return {"sealed_nvram": bool(record["nvram"])}

    def sealed_names(self, record: Mapping[str, Any]) -> dict[str, str]:
        return {record["nvram"]: sealed_path(dict(record))} if record.get("sealed_nvram") else {}

    def discard(self, conn: Any, journal: Journal, uses: DiskUses, record: Mapping[str, Any]) -> None:
        """Where the release that began this did not seal them, a guest that was made since, with this name, may have taken the file for its own."""
        if record.get("nvram") and not record.get("sealed_nvram"):
            _files.remove_unused(uses, [record["nvram"]], operation=record["uuid"])

    def must_be_free(self, record: Mapping[str, Any]) -> Iterator[str]:
        if record.get("nvram"):
            yield record["nvram"]

    def strange(self, root: ET.Element, record: Mapping[str, Any]) -> Iterator[str]:
        path = _definition.firmware(root).nvram
        if path not in (None, record["nvram"]):
            yield f"its firmware variables lie in {shown(str(path))}, not in {record['nvram']}"

    def received(self, record: Mapping[str, Any], kept: Any) -> None:
        """They stand on no other file, whatever format the definition says they have."""
        path = part_path(dict(record), record["nvram"]) if record.get("nvram") else None
        if path is not None and _qemu_img.is_qcow2(path) and (backing := _qemu_img.info(path, "qcow2").backing_path):
            raise KvmfleetError("chain_changed", f"The firmware variables {path} stand on another file, {shown(backing)}.")

    def adapt(self, root: ET.Element, record: Mapping[str, Any]) -> None:
        if record.get("nvram") and _definition.firmware(root).nvram:
            _edit.set_nvram(root, record["nvram"])

    def keep(self, journal: Journal, record: dict[str, Any]) -> dict[str, Any]:
        return keep(journal, record)

    def require_kept(self, record: Mapping[str, Any]) -> None:
        if record.get("nvram"):
            require_kept(dict(record))

    def go_back(self, journal: Journal, record: dict[str, Any]) -> dict[str, Any]:
        return bring_back(journal, record)

    def forget(self, record: Mapping[str, Any]) -> None:
        forget(dict(record))


def found(name: str, root: ET.Element) -> _definition.Firmware:
    """Where libvirt chooses the firmware at each start, a definition does not say where the variables are: they bear the name of the domain."""
    told = _definition.firmware(root)
    if told.kind == "uefi" and told.nvram is None:
        for suffix, image_format in _FORMATS.items():
            path = os.path.join(NVRAM_DIRECTORY, f"{name}_VARS.{suffix}")
            if os.path.isfile(path):
                return replace(told, nvram=path, nvram_format=image_format)
    return told


def link_refusals(path: str) -> Iterator[tuple[str, str]]:
    """What the writer will not touch. That there are none is no refusal: a guest that was never started has none."""
    try:
        with contextlib.suppress(OSError), _whole_file.opened(path):
            pass
    except KvmfleetError as exc:
        yield exc.code, exc.message


def sealed_path(record: dict[str, Any]) -> str:
    """Where they lie while the source copy is sealed. An older release left them where they were, and its records do not say `sealed_nvram`."""
    return _file_names.beside(record["nvram"], _file_names.SEALED, record) if record.get("sealed_nvram") else record["nvram"]


def kept_path(record: dict[str, Any]) -> str:
    """Where the copy from before a resize in place lies."""
    return _file_names.beside(record["nvram"], _file_names.RESIZE, record)


def keep(journal: Journal, record: dict[str, Any]) -> dict[str, Any]:
    """Keep a copy, for the way back; the record that says so, and what is in it, is on the disk before anything can write to the variables.

    :returns: the record.
    """
    if not record["nvram"] or "kept_nvram" in record:
        return record
    return journal.update(record, kept_nvram=_whole_file.copy(record["nvram"], kept_path(record)))


def require_kept(record: dict[str, Any]) -> bool:
    """Whether the copy is to take the place of the variables; False where these are what they were, or were put back already.

    :raises KvmfleetError: `kept_copy_broken` where the copy is not what was kept, and the guest has written to its variables since.
    """
    have, copy = _whole_file.stamp(record["nvram"]), _whole_file.stamp(kept_path(record))
    wanted = record["kept_nvram"] if "kept_nvram" in record else _kept_by_older_release(record, have, copy)
    if copy == wanted:
        return copy is not None
    # One that was put in place of the lost copy by hand, out of the variables of now, says that these are to stay.
    if have == wanted or copy == have or (copy is None and record.get("nvram_back")):
        return False
    kept = kept_path(record)
    what = "is missing" if copy is None else "is not what was kept"
    raise KvmfleetError(
        "kept_copy_broken",
        f"The firmware variables of {record['instance_name']} cannot be put back: their copy {kept} {what}. {record['nvram']} was not touched. Bring the copy "
        f"back from a backup, or, to let the guest keep the variables that it has now, run cp -a {record['nvram']} {kept}; then repeat this.",
        path=kept,
        have=copy,
        need=wanted,
    )


def bring_back(journal: Journal, record: dict[str, Any]) -> dict[str, Any]:
    """Let the variables be those of the switch, before the guest is started. Repeating it is safe, also once the guest has written to them again.

    :returns: the record.
    :raises KvmfleetError: as `require_kept`.
    """
    if record["nvram"]:
        from_copy = require_kept(record)
        record = journal.update(record, nvram_back=True)
        if from_copy:
            _whole_file.replace(kept_path(record), record["nvram"])
        forget(record)
    return record


def forget(record: dict[str, Any]) -> None:
    """Delete the copy, and what an interrupted `keep` has left."""
    for path in (kept_path(record), kept_path(record) + _file_names.NEW) if record["nvram"] else ():
        with _paths.if_there():
            _whole_file.remove(path)


def _kept_by_older_release(record: dict[str, Any], have: dict[str, Any] | None, copy: dict[str, Any] | None) -> dict[str, Any] | None:
    """It noted nothing, but went on only with a complete copy: until then the variables are as they were. Their length never changes."""
    if copy is None or record["status"] not in ("post-migrating", "finished", "reverting"):
        return have
    return copy if have is None or copy["size"] == have["size"] else {"size": have["size"], "sha256": None}
