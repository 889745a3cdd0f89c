# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The documents of the channel, as another host hands them over: none of them takes effect before it was judged here.

The definition of the guest is judged by `_guest.handed_definition`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .._rules.errors import KvmfleetError
from .._rules.value_kinds import CHANNEL, COUNT, FLAG, ID, MOST_FILES, SHA256, TARGET, TEXT
from .._rules.values import Absent, Each, Named, Null, Table, require
from . import checksums as _checksums

_OTHER_BYTES = 128 * 1024 * 1024
_SLACK_BYTES = 256 * 1024 * 1024
"""What the tables of an image and the memory in a snapshot take beside what the guest sees, over a hundredth of that."""

_FILES = Named(CHANNEL, COUNT, MOST_FILES)
MANIFEST: Mapping[str, Table] = {
    "migration_uuid": ID,
    "round": COUNT,
    "there": Absent(Each(TARGET, MOST_FILES)),
    "files": _FILES,
    "sizes": _FILES,
}
"""The manifest of a round of pre-copy."""
SEALED: Mapping[str, Table] = {
    **MANIFEST,
    "domain_xml": TEXT,
    "autostart": FLAG,
    "was_running": FLAG,
}
"""The manifest of the sealed guest, but for the parts that `_guest.belongings` has in it."""
DEFINITION: Mapping[str, Table] = {"domain_xml": TEXT, "portable_xml": Null(TEXT)}
"""What is tried while the guest runs, but for what `_guest.belongings` has in it."""
CHECKSUM: Mapping[str, Table] = {"size": COUNT, "segment_size": COUNT, "segments": Each(SHA256, 2**18), "sha256": SHA256}
FAILED: Mapping[str, Table] = {"error": TEXT}
"""The document that stands in for a checksum that the other host could not make."""


def document(name: str, value: Any, *tables: Mapping[str, Table]) -> dict[str, Any]:
    """A document of the channel that has the form of one of the tables.

    :raises KvmfleetError: `manifest_invalid`.
    """
    for number, table in enumerate(tables, 1):
        try:
            require(name, value, table)
        except KvmfleetError as exc:
            if number == len(tables):
                raise KvmfleetError("manifest_invalid", f"The other host offers what is no {name}: {exc.message}", **exc.details) from exc
        else:
            return value
    raise AssertionError("there is a table")


def checksum(name: str, value: Any, size: int) -> dict[str, Any]:
    """The checksum of a file of this length, or why there is none.

    :raises KvmfleetError: `manifest_invalid`.
    """
    found = document(f"checksum of {name}", value, FAILED, CHECKSUM)
    if "error" not in found:
        step = _checksums.segment_for(size)
        expected = (size, step, -(-size // step))
        if (found["size"], found["segment_size"], len(found["segments"])) != expected:
            raise KvmfleetError(
                "manifest_invalid",
                f"The other host offers a checksum of {name} of {found['size']} bytes in {len(found['segments'])} segments of {found['segment_size']}; "
                f"{expected[0]} bytes in {expected[2]} segments of {expected[1]} are to come.",
            )
    return found


def require_sizes(record: Mapping[str, Any], manifest: Mapping[str, Any]) -> None:
    """The files that are to come are no larger than those of the plan can have become: what the guest sees, once more, and tables.

    :raises KvmfleetError: `manifest_invalid`.
    """
    limits = {disk["target"]: _limit(disk) for disk in record["disks"]}
    for name, length in manifest["sizes"].items():
        data, limit = manifest["files"].get(name, 0), limits.get(name, _OTHER_BYTES)
        if max(data, 0 if name in limits and not _is_plain(record, name) else length) > limit or data > length + _checksums.BLOCK:
            raise KvmfleetError(
                "manifest_invalid",
                f"The other host offers {name} with {data} bytes of data in a file of {length} bytes; by the plan it has {limit} at most.",
                have=max(data, length),
                limit=limit,
            )


def _limit(disk: Mapping[str, Any]) -> int:
    """Bytes of data that the file of a disk may have: it may hold all that the guest sees twice, where a snapshot keeps what was there before."""
    extra = _SLACK_BYTES + disk["virtual_size"] // 100
    return int(disk["virtual_size"] + extra + (disk["allocated_bytes"] if disk["format"] != "raw" else 0))


def _is_plain(record: Mapping[str, Any], target: str) -> bool:
    """Whether the file is as long as what the guest sees, so that its length is bounded too. That of others may grow as holes are punched into them."""
    return any(disk["target"] == target and disk["format"] == "raw" for disk in record["disks"])
