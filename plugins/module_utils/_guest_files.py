# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The one place where files of guests lose or change their names: each time it is asked first who else uses them (see `_disk_use`)."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Mapping

from ._disk_use import DETACH, DiskUses
from ._errors import KvmfleetError
from ._state_dir import sync_directory


def remove(uses: DiskUses, paths: Iterable[str], *, operation: str, advice: str = DETACH, code: str = "disk_in_use_by") -> bool:
    """Remove files for good, all of them or none; those that are not there (any more) are fine.

    :param operation: UUID of the operation that they belong to.
    :returns: whether there was one.
    :raises KvmfleetError: the `code`, where anything but the operation uses one of them.
    """
    there = [path for path in dict.fromkeys(paths) if os.path.lexists(path)]
    uses.require_unused(there, operation=operation, code=code, advice=advice)
    for path in there:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
    _sync(there)
    return bool(there)


def remove_unused(uses: DiskUses, paths: Iterable[str], *, operation: str) -> list[str]:
    """Remove those of the files that nothing but the operation uses, for what may stay where it is; the files that stayed."""
    there = [path for path in dict.fromkeys(paths) if os.path.lexists(path)]
    used = uses.of(there, operation=operation)
    remove_unfinished(path for path in there if path not in used)
    return list(used)


def remove_unfinished(paths: Iterable[str]) -> None:
    """Remove files that never were a guest's, under names that only an operation knows; those that are not there are fine."""
    for path in paths:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)


def rename(uses: DiskUses, names: Mapping[str, str], *, operation: str, guest: str | None = None) -> None:
    """Give files other names, which nothing bears yet; those that are not there are left out, since that was done before.

    :param guest: UUID of the guest that may use them, and does not run.
    :raises KvmfleetError: `disk_in_use_by`, `path_taken`; nothing was renamed then.
    """
    there = {old: new for old, new in names.items() if os.path.lexists(old)}
    uses.require_unused(there, operation=operation, guest=guest)
    for old, new in there.items():
        if os.path.lexists(new):
            raise KvmfleetError("path_taken", f"{old} cannot be called {new}: that exists already, and is not known to this operation.", path=new)
    for old, new in there.items():
        os.rename(old, new)
    _sync([*there, *there.values()])


def replace(uses: DiskUses, new: str, path: str, *, operation: str, guest: str | None = None) -> None:
    """Let a complete file take the place of another one, which is lost with that.

    :param guest: as of `rename`; :raises KvmfleetError: `disk_in_use_by`.
    """
    uses.require_unused([new, path], operation=operation, guest=guest)
    os.replace(new, path)
    _sync([new, path])


def give_name(unfinished: str, path: str) -> None:
    """Give a complete file of an operation its name; FileExistsError where another file bears it, which is never replaced."""
    os.link(unfinished, path)
    os.unlink(unfinished)


def _sync(paths: Iterable[str]) -> None:
    for directory in {os.path.dirname(path) for path in paths}:
        sync_directory(directory)
