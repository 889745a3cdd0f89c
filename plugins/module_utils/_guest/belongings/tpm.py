# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The state of an emulated TPM: some kilobytes, without which a guest cannot unseal what it has sealed (a disk's key, as a rule).

libvirt keeps it in a directory that bears the UUID of the guest, and gives it to the user of swtpm when the guest starts. It travels in the
manifest and waits in the private part of the journal, like passwords of a definition.
"""

from __future__ import annotations

import base64
import os
import shutil
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping
from typing import Any

from ..._journal.records import Journal
from ..._rules.errors import KvmfleetError
from ..._rules.value_kinds import BASE64, MOST_FILES, STATE_PATH, TPM_BYTES
from ..._rules.values import Named
from ..._storage.disk_use import DiskUses
from ..._system import whole_file as _whole_file
from .belonging import Belonging, Guest, Here

DIRECTORY = "/var/lib/libvirt/swtpm"
_LOCK = ".lock"  # of the swtpm that runs


class TpmState(Belonging):
    name = "tpm"
    form = Named(STATE_PATH, BASE64, MOST_FILES)

    def facts(self, guest: Guest) -> dict[str, Any]:
        return {self.name: device(guest.root)}

    def archive(self, domain: Any, record: Mapping[str, Any]) -> dict[str, str] | None:
        return read(record["instance_uuid"]) if record.get(self.name) else None

    def offer(self, conn: Any, record: Mapping[str, Any]) -> dict[str, str]:
        return self._of(record)

    def put_there(self, record: Mapping[str, Any]) -> None:
        """libvirt before 8.9 deletes it with the definition."""
        write(record["instance_uuid"], self._of(record), record["uuid"])

    def discard(self, conn: Any, journal: Journal, uses: DiskUses, record: Mapping[str, Any]) -> None:
        if record.get(self.name):
            remove(record["instance_uuid"], record["uuid"])

    def must_be_free(self, record: Mapping[str, Any]) -> Iterator[str]:
        if record.get(self.name):
            yield directory(record["instance_uuid"])

    def arrived(self, record: Mapping[str, Any], given: Any, here: Here) -> dict[str, str]:
        judge(record, given)
        return dict(given)

    def withdraw(self, conn: Any, journal: Journal, uses: DiskUses, record: dict[str, Any]) -> None:
        if "private" in record:
            self.discard(conn, journal, uses, record)

    def go_back(self, journal: Journal, record: dict[str, Any]) -> dict[str, Any]:
        if self._of(record):
            put_back(record["instance_uuid"], self._of(record), record["uuid"])
        return record

    def _of(self, record: Mapping[str, Any]) -> dict[str, str]:
        return dict(record["private"].get(self.name) or {})


def device(root: ET.Element) -> dict[str, str | None] | None:
    """`model` and `version` of a definition's; None without one."""
    tpm = root.find("devices/tpm")
    backend = None if tpm is None else tpm.find("backend[@type='emulator']")
    return None if tpm is None else {"model": tpm.get("model"), "version": None if backend is None else backend.get("version")}


def judge(record: Mapping[str, Any], files: Mapping[str, str]) -> None:
    """It comes only for a guest that has one, and no more of it than a source reads.

    :raises KvmfleetError: `manifest_invalid`.
    """
    size = sum(len(base64.b64decode(content)) for content in files.values())
    if files and not record.get("tpm"):
        raise KvmfleetError("manifest_invalid", f"The other host offers the state of a TPM, and {record['instance_name']} has none by the plan.")
    if size > TPM_BYTES:
        raise KvmfleetError("manifest_invalid", f"The other host offers {size} bytes as the state of a TPM; {TPM_BYTES} are possible.", have=size)


def directory(instance_uuid: str) -> str:
    """Where libvirt keeps it."""
    return os.path.join(DIRECTORY, instance_uuid)


def read(instance_uuid: str) -> dict[str, str]:
    """Content in Base64 by path below the directory; empty for a TPM that was never started.

    :raises KvmfleetError: `tpm_state_unusable` for what no swtpm writes there.
    """
    top, files, size = directory(instance_uuid), {}, 0
    for where, directories, names in os.walk(top):
        for name in names + [name for name in directories if os.path.islink(os.path.join(where, name))]:
            path = os.path.join(where, name)
            if name == _LOCK:
                continue
            content = _content(path, TPM_BYTES + 1 - size)
            size += len(content)
            if size > TPM_BYTES:
                raise KvmfleetError(
                    "tpm_state_unusable", f"The state of the TPM in {top} has more than {TPM_BYTES} bytes.", path=top, have=size, limit=TPM_BYTES
                )
            files[os.path.relpath(path, top)] = base64.b64encode(content).decode()
    return files


def _content(path: str, limit: int) -> bytes:
    """The directory belongs to the user of swtpm, who may put anything there, and at any time."""
    try:
        with _whole_file.opened(path) as descriptor, os.fdopen(descriptor, "rb", closefd=False) as stream:
            return stream.read(limit)
    except KvmfleetError as exc:
        raise KvmfleetError("tpm_state_unusable", f"{path} in the state of the TPM is no regular file.", path=path) from exc


def write(instance_uuid: str, files: dict[str, str], unique: str) -> bool:
    """Let the directory hold these files, all at once or not at all; one that is there is left as it is.

    :param unique: part of the name that the directory has until it is complete.
    :returns: whether it had to be made.
    """
    target = directory(instance_uuid)
    if not files or os.path.lexists(target):
        return False
    _whole_file.make_directory(DIRECTORY, 0o711)
    contents = {name: base64.b64decode(content) for name, content in files.items()}
    # The mode is that which libvirt gives it: what lies below belongs to the user of swtpm, who must get there.
    try:
        _whole_file.write_tree(target, contents, through=f"{target}.{unique}.part", mode=0o711)
    except KvmfleetError as exc:
        if exc.code != "invalid_name":
            raise
        raise KvmfleetError("tpm_state_unusable", f"The state of the TPM names a file outside of its directory: {exc.message}", path=target) from exc
    return True


def put_back(instance_uuid: str, files: dict[str, str], unique: str) -> None:
    """Let the directory hold these files, whatever it holds now; repeating it is safe while the files are known.

    :raises KvmfleetError: `tpm_state_unusable` where something keeps what is there from being removed.
    """
    remove(instance_uuid, unique)
    path = directory(instance_uuid)
    if os.path.lexists(path):
        raise KvmfleetError("tpm_state_unusable", f"{path} holds the state of the TPM from after the switch and cannot be removed. Remove it.", path=path)
    write(instance_uuid, files, unique)


def remove(instance_uuid: str, unique: str) -> None:
    """Delete it, and what an interrupted `write` has left."""
    target = directory(instance_uuid)
    for path in (target, f"{target}.{unique}.part"):
        shutil.rmtree(path, ignore_errors=True)
