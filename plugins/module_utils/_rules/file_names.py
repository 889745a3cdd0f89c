# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The names that operations give to files beside those of a guest.

All of them are here, so that the longest one is known before a guest is touched: a name that is too long would else be found out while it is off,
and again by the undo.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

SEALED = ".sealed-{uuid}"
"""A disk of a sealed source copy."""
PART = ".{uuid}.part"
"""What comes to this host or is made here, until it is complete and proven."""
LAYER_PART = ".{uuid}.part.layer"
"""A layer of a disk that comes, until it is merged into what came before."""
RAW_PART = ".{uuid}.part.raw"
"""What a new disk is made of."""
LEFTOVER = ".{instance_uuid}.kept"
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

SUFFIXES = (SEALED, PART, LAYER_PART, RAW_PART, LEFTOVER, PRECOPY, RESIZE, OTHER_MEDIUM, OTHER_DRIVE, NEW, RESIZE + NEW)
_LONGEST_VALUES = {"uuid": "0" * 36, "instance_uuid": "0" * 36, "number": "0" * 4}
LONGEST = max(len(suffix.format_map(_LONGEST_VALUES)) for suffix in SUFFIXES)


def beside(path: str, suffix: str, record: Mapping[str, Any], number: int = 0) -> str:
    """The name of a file of the operation beside a file of the guest; `suffix` is one of `SUFFIXES`."""
    return path + suffix.format(uuid=record["uuid"], instance_uuid=record.get("instance_uuid"), number=number)
