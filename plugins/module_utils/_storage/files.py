# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The one place where files of guests lose or change their names: each time it is asked first who else uses them (see `_storage.disk_use`)."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping

from .._rules.errors import KvmfleetError
from .._rules.file_names import PROBE
from .._system import whole_file as _whole_file
from .._system.paths import if_there
from .disk_use import DETACH, DiskUses


def remove(
    uses: DiskUses,
    paths: Iterable[str],
    *,
    operation: str,
    advice: str = DETACH,
    code: str = "disk_in_use_by",
    how: Mapping[str, Callable[[str], None]] | None = None,
) -> bool:
    """Remove files for good, all of them or none; those that are not there (any more) are fine.

    :param operation: UUID of the operation that they belong to; :param how: what removes those that are no files, by path.
    :returns: whether there was one.
    :raises KvmfleetError: the `code`, where anything but the operation uses one of them.
    """
    there = require_removable(uses, paths, operation=operation, advice=advice, code=code)
    for path in there:
        with if_there():
            (how or {}).get(path, _whole_file.remove)(path)
    return bool(there)


def require_removable(uses: DiskUses, paths: Iterable[str], *, operation: str, advice: str = DETACH, code: str = "disk_in_use_by") -> list[str]:
    """Those of the files that are there, which `remove` would remove; as it raises."""
    there = [path for path in dict.fromkeys(paths) if os.path.lexists(path)]
    uses.require_unused(there, operation=operation, code=code, advice=advice)
    return there


def remove_unused(uses: DiskUses, paths: Iterable[str], *, operation: str) -> list[str]:
    """Remove those of the files that nothing but the operation uses, for what may stay where it is; the files that stayed."""
    there = [path for path in dict.fromkeys(paths) if os.path.lexists(path)]
    used = uses.of(there, operation=operation)
    remove_unfinished(path for path in there if path not in used)
    return list(used)


def remove_unfinished(paths: Iterable[str]) -> None:
    """Remove files that never were a guest's, under names that only an operation knows; those that are not there are fine."""
    for path in paths:
        with if_there():
            _whole_file.remove(path)


def remove_directories(uses: DiskUses, inodes: Mapping[str, int], *, operation: str) -> None:
    """Remove the directories that are empty and are the ones that are meant, but for those in which anything but the operation has a file or may get one.

    :param inodes: of each directory the inode.
    """
    there = {path: inode for path, inode in inodes.items() if os.path.isdir(path)}
    needed = uses.within(there, operation=operation)
    remove_empty({path: inode for path, inode in there.items() if path not in needed})


def remove_empty(inodes: Mapping[str, int]) -> None:
    """Remove directories that only operations know, as far as they are empty; what a look that died has left in one is nothing."""
    for path in sorted(inodes, key=len, reverse=True):
        with if_there():
            if os.lstat(path).st_ino == inodes[path] and not os.path.islink(path):
                remove_unfinished(os.path.join(path, name) for name in os.listdir(path) if name.startswith(PROBE))
                _whole_file.remove_directory(path, inodes[path])


def rename_unfinished(old: str, new: str) -> None:
    """Give a file that never was a guest's another name that only operations know."""
    _whole_file.replace(old, new)


def name_unfinished(old: str, new: str) -> None:
    """Give a file or directory that never was a guest's a name in the same directory; FileExistsError where something bears that."""
    _whole_file.rename(old, new)


def rename(
    uses: DiskUses,
    names: Mapping[str, str],
    *,
    operation: str,
    guest: str | None = None,
    how: Mapping[str, Callable[[str, str], None]] | None = None,
) -> None:
    """Give files other names beside their own, which nothing bears yet; those that are not there are left out, since that was done before.

    :param guest: UUID of the guest that may use them, and does not run; :param how: what renames those that are no files, by the name that they have.
    :raises KvmfleetError: `disk_in_use_by`, `path_taken`; nothing was renamed then.
    """
    there = {old: new for old, new in names.items() if os.path.lexists(old)}
    uses.require_unused(there, operation=operation, guest=guest)
    for old, new in there.items():
        if os.path.lexists(new):
            raise KvmfleetError("path_taken", f"{old} cannot be called {new}: that exists already, and is not known to this operation.", path=new)
    for old, new in there.items():
        (how or {}).get(old, _whole_file.rename)(old, new)


def replace(uses: DiskUses, new: str, path: str, *, operation: str, guest: str | None = None) -> None:
    """Let a complete file take the place of another one, which is lost with that.

    :param guest: as of `rename`; :raises KvmfleetError: `disk_in_use_by`.
    """
    uses.require_unused([new, path], operation=operation, guest=guest)
    _whole_file.replace(new, path)
