# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A directory is opened through no link but those of root."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator

from .._rules.errors import KvmfleetError

_MAX_LINKS = 40


@contextlib.contextmanager
def directory(path: str) -> Iterator[int]:
    """The descriptor of a directory, reached through no link but those of root.

    :raises KvmfleetError: `link_not_followed`.
    """
    descriptor = _walk(path)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _walk(path: str) -> int:
    steps = [name for name in reversed(os.path.join(os.getcwd(), path).split("/")) if name]
    where, links = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC), 0
    try:
        while steps:
            found = os.open(steps.pop(), os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=where)
            status = os.fstat(found)
            if not stat.S_ISLNK(status.st_mode):
                os.close(where)
                where = found
                continue
            try:
                target, links = os.readlink("", dir_fd=found), links + 1
            finally:
                os.close(found)
            if status.st_uid not in (0, os.geteuid()) or links > _MAX_LINKS:
                raise link(path)
            steps += [name for name in reversed(target.split("/")) if name]
            if target.startswith("/"):
                os.close(where)
                where = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        return os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=where)
    except OSError as exc:
        raise OSError(exc.errno, exc.strerror, path) from exc
    finally:
        os.close(where)


def link(path: str) -> KvmfleetError:
    return KvmfleetError(
        "link_not_followed",
        f"{path} is a symbolic link, or leads through one that root has not made (to {os.path.realpath(path)}); it is not followed. "
        "Find out who made it, and put the file or directory itself there.",
        path=path,
    )
