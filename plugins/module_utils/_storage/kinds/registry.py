# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The kinds of storage: a line for each."""

from __future__ import annotations

from ..._domain.definition import Disk
from .file import File
from .kind import Kind
from .network import Network
from .other import Other
from .volume import Volume

ALL: tuple[Kind, ...] = (
    Volume(),
    Network(),
    File(),
)
_OTHER = Other()


def named(disk: Disk) -> Kind:
    """What a definition says that a disk lies in."""
    return next((kind for kind in ALL if disk.source_type in kind.source_types), _OTHER)
