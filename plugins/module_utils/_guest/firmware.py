# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a UEFI guest keeps in the variables of its firmware: boot entries, the keys of secure boot.

They lie in a small file of their own, in a directory of QEMU's user and under a name that the next guest of that name would take for its own. So they are
sealed with the disks of a source copy. In place, where the guest goes on writing to them, a copy is kept, which the journal knows as complete.
"""

from __future__ import annotations

from typing import Any

from .._journal.records import Journal
from .._rules import file_names as _file_names
from .._rules.errors import KvmfleetError
from .._system import paths as _paths, whole_file as _whole_file


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
