# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether a guest has run on the copy that an operation completed, so that the copy may hold what exists nowhere else.

The journal says what this operation did: `started` is written right after libvirt has started the guest. Where a module died within the start, or
somebody else started the guest, evidence has to do that outlives QEMU, libvirt and the module: every write to a file changes its time of
modification, which opening it, its owner and its label do not. What cannot be proven counts as run: a guest that may have written is never discarded.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any

from .._domain import definition as _definition
from .._libvirt import definitions as _definitions, domains as _domains
from .._rules.errors import KvmfleetError
from .._system import paths as _paths


def stamps(paths: Iterable[str]) -> dict[str, list[int]]:
    """Of each file what a write to it, or another file in its place, would change. To be journaled before libvirt can start the guest."""
    return {path: _stamp(path) for path in paths}


def is_complete(record: Mapping[str, Any]) -> bool:
    """Whether there is a copy of this operation here that a guest can have run on before the operation is finished."""
    return record["role"] != "source" and (record["status"] == "post-migrating" or record["step"] == "defining")


def require_interrupted(record: Mapping[str, Any]) -> None:
    """The operation has not been finished since it was decided to go back. A module may go on when its run has lost the host and given it up.

    :raises KvmfleetError: `guest_has_run`.
    """
    if record["status"] in ("finished", "confirming"):
        raise KvmfleetError(
            "guest_has_run",
            f"The operation on {record['instance_name']} is not undone: it was finished here since, by a module that went on after its run had given it up. "
            "Confirm it, or revert it if the old state is to be used.",
            instance=record["instance_name"],
        )


def has_run(domain: Any, record: Mapping[str, Any]) -> str | None:
    """Why the guest counts as started on the copy; None where it is proven that it has not written to it.

    A copy that is being withdrawn has not, once nobody can start it there any more: that was made sure of before, and its files are going.
    """
    if not is_complete(record):
        return None
    active = domain is not None and _domains.is_active(domain) and _runs_on_copy(domain, record)
    if record.get("withdrawing") and (domain is None or record["role"] == "in_place") and not active:
        return None
    if record["step"] == "started":
        return "it was started there"
    if active:
        return "it is active there"
    if "published" not in record:
        return None if record["step"] == "defining" else "whether it was started there is not proven"
    return written(record)


def written(record: Mapping[str, Any]) -> str | None:
    """Which file of the copy somebody has written to since it was complete; None where nobody has, or the copy never was complete."""
    path = next((path for path, stamp in record.get("published", {}).items() if _stamp(path) != stamp), None)
    return None if path is None else f"{path} was written to since it was complete"


def _stamp(path: str) -> list[int]:
    with _paths.if_there():
        status = os.stat(path)
        return [status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns]
    return []


def _runs_on_copy(domain: Any, record: Mapping[str, Any]) -> bool:
    """In place, somebody may have started the guest while its definition was still that from before the switch, which names no layer."""
    if record["role"] != "in_place" or not record.get("published"):
        return True
    return any(disk.path in record["published"] for disk in _definition.disks(_definition.parse(_definitions.live_xml(domain))))
