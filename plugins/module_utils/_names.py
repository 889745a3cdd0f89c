# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The names that operations give to files beside those of a guest, and whether the filesystem takes them.

All of them are here, so that the longest one is known before a guest is touched: a name that is too long would else be found out while it is off,
and again by the undo.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

SEALED = ".sealed-{uuid}"
"""A disk of a sealed source copy."""
PART = ".{uuid}.part"
"""What comes to this host or is made here, until it is complete and proven."""
LAYER_PART = ".{uuid}.part.layer"
"""A layer of a disk that comes, until it is merged into what came before."""
RAW_PART = ".{uuid}.part.raw"
"""What a new disk is made of."""
KEPT = ".{instance_uuid}.kept"
"""What has come of a copy that broke, for the next operation of the instance."""
PRECOPY = ".precopy-{uuid}.{number}"
"""A layer under a running guest, while its disk is copied ahead."""
RESIZE = ".resize-{uuid}"
"""A layer over a disk that was resized in place, and the firmware variables of before."""
OTHER_MEDIUM = ".{uuid}"
"""A medium whose name is taken at the destination, before its extension."""
OTHER_DRIVE = ".{uuid}.{number}"
"""A medium that another drive of the guest has as well, before its extension."""
PROBE = ".kvmfleet-probe-"
"""What a file is called, before random digits, that is only made to see who can read it."""
NEW = ".new"
"""A file that is being written, until it is whole; also one that bears a suffix already."""

SUFFIXES = (SEALED, PART, LAYER_PART, RAW_PART, KEPT, PRECOPY, RESIZE, OTHER_MEDIUM, OTHER_DRIVE, NEW, RESIZE + NEW)
_LONGEST_VALUES = {"uuid": "0" * 36, "instance_uuid": "0" * 36, "number": "0" * 4}
LONGEST = max(len(suffix.format_map(_LONGEST_VALUES)) for suffix in SUFFIXES)
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


def beside(path: str, suffix: str, record: Mapping[str, Any], number: int = 0) -> str:
    """The name of a file of the operation beside a file of the guest; `suffix` is one of `SUFFIXES`."""
    return path + suffix.format(uuid=record["uuid"], instance_uuid=record.get("instance_uuid"), number=number)


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
