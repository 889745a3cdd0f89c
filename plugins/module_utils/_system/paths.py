# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether a filesystem takes the names of files, and files that may not be there."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from typing import NamedTuple

from .._rules.file_names import LONGEST

_TOO_LONG = (errno.ENOENT, errno.ENAMETOOLONG)


class Name(NamedTuple):
    """A path too long for its filesystem: the bytes that its name, or all of it, would have with our longest suffix, and those that it may have."""

    path: str
    what: str
    need: int
    have: int

    def __str__(self) -> str:
        return (
            f"{self.path} has too long a {self.what}: with what an operation appends ({LONGEST} bytes) it has {self.need} bytes, and its filesystem takes "
            f"{self.have}; rename it"
        )


def too_long(path: str) -> Name | None:
    """Whether an operation could not give all its names beside a path. A directory that is not there is as the one that it would lie in."""
    directory, name = os.path.split(os.fsencode(path))
    with contextlib.suppress(OSError):
        for what, need, limit in (("name", len(name), "PC_NAME_MAX"), ("path", len(directory) + 1 + len(name) + 1, "PC_PATH_MAX")):
            have = os.pathconf(standing(os.fsdecode(directory)), limit)
            if need + LONGEST > have > 0:
                return Name(path, what, need + LONGEST, have)
    return None


def standing(directory: str) -> str:
    """The directory itself, or the innermost one on the way to it that is there: the filesystem on which it would be made."""
    while not os.path.isdir(directory) and os.path.dirname(directory) != directory:
        directory = os.path.dirname(directory)
    return directory


@contextlib.contextmanager
def if_there() -> Iterator[None]:
    """Go on where a file is not there, or could not be by a name so long: an undo must not end because of what never was."""
    try:
        yield
    except OSError as exc:
        if exc.errno not in _TOO_LONG:
            raise
