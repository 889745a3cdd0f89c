# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A filesystem whose server lets root do what nobody may do, as NFS with root_squash: python3 squash.py DIRECTORY MOUNTPOINT, with Debian's python3-fusepy."""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
from collections.abc import Iterator
from typing import Any

from fusepy import FUSE, FuseOSError, Operations, fuse_get_context

NOBODY = 65534
_libc = ctypes.CDLL(None)


@contextlib.contextmanager
def _as_the_caller() -> Iterator[None]:
    """What follows is done with the rights of who asked for it; the kernel takes those of root from whoever is not root."""
    uid, gid, _pid = fuse_get_context()
    _libc.setfsgid(gid if uid else NOBODY)
    _libc.setfsuid(uid or NOBODY)
    try:
        yield
    except OSError as error:
        raise FuseOSError(error.errno) from error
    finally:
        _libc.setfsuid(0)
        _libc.setfsgid(0)


class Squash(Operations):
    """All operations of a directory, each with the rights of who asks."""

    def __init__(self, directory: str) -> None:
        self.directory = directory

    def __call__(self, operation: str, path: str | None, *arguments: Any) -> Any:
        with _as_the_caller():
            return getattr(self, operation)(path and self.directory + path, *arguments)

    def getattr(self, path: str, handle: int | None = None) -> dict[str, Any]:
        status = os.lstat(path)
        names = ("st_atime", "st_ctime", "st_gid", "st_mode", "st_mtime", "st_nlink", "st_size", "st_uid", "st_blocks")
        return {name: getattr(status, name) for name in names}

    def readdir(self, path: str, handle: int) -> list[str]:
        return [".", "..", *os.listdir(path)]

    def open(self, path: str, flags: int) -> int:
        return os.open(path, flags & ~os.O_DIRECT)

    def create(self, path: str, mode: int, info: Any = None) -> int:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, mode)

    def read(self, path: str, size: int, offset: int, handle: int) -> bytes:
        return os.pread(handle, size, offset)

    def write(self, path: str, data: bytes, offset: int, handle: int) -> int:
        return os.pwrite(handle, data, offset)

    def fsync(self, path: str, datasync: int, handle: int) -> None:
        os.fsync(handle)

    def release(self, path: str, handle: int) -> None:
        os.close(handle)

    def truncate(self, path: str, length: int, handle: int | None = None) -> None:
        os.truncate(path if handle is None else handle, length)

    def access(self, path: str, mode: int) -> None:
        os.lstat(path)

    def statfs(self, path: str) -> dict[str, int]:
        status = os.statvfs(path)
        return {name: getattr(status, name) for name in dir(status) if name.startswith("f_") and name != "f_fsid"}

    def chmod(self, path: str, mode: int) -> None:
        os.chmod(path, mode)

    def chown(self, path: str, uid: int, gid: int) -> None:
        os.lchown(path, uid, gid)

    def unlink(self, path: str) -> None:
        os.unlink(path)

    def mkdir(self, path: str, mode: int) -> None:
        os.mkdir(path, mode)

    def rmdir(self, path: str) -> None:
        os.rmdir(path)

    def rename(self, path: str, new: str) -> None:
        os.rename(path, self.directory + new)


if __name__ == "__main__":
    FUSE(Squash(sys.argv[1]), sys.argv[2], foreground=False, nothreads=True, allow_other=True, attr_timeout=0, entry_timeout=0)
