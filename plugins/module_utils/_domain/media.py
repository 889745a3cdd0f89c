# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Media in the drives of a guest that are gone, or where no images are: what becomes of them, and the commands for a person who has to decide.

libvirt starts a guest without a medium that is gone if its definition says `startupPolicy='optional'`. So such a guest moves as it starts, with the drive
empty: the path of the medium may be that of anything at the destination.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from .definition import Disk

REMOVABLE = ("cdrom", "floppy")
_ABSENT = "image_missing"
_ELSEWHERE = "image_outside_directories"


def is_left_out(disk: Disk, path: str | None) -> bool:
    """Whether the guest starts without what its definition names in the drive; `path` is where that would be."""
    return disk.device in REMOVABLE and disk.startup_policy == "optional" and path is not None and not os.path.exists(path)


def way_out(guest: str, disk: Mapping[str, Any], code: str, directories: Sequence[str], *, active: bool = False) -> str:
    """What a person can do about a file that keeps a guest from being moved, as commands; empty where that is for the message alone to say.

    :param disk: facts of it; :param code: of what is wrong with its file; :param active: whether the guest runs, which has a medium that is there then too.
    """
    name, target = shlex.quote(guest), shlex.quote(disk["target"])
    if disk["device"] in REMOVABLE:
        where = "--live --config" if active and code != _ABSENT else "--config"
        eject = f"virsh change-media {name} {target} --eject {where}"
        if code == _ELSEWHERE and disk["path"] and directories:
            there = os.path.join(directories[0], os.path.basename(disk["path"]))
            move = f"mv {shlex.quote(disk['path'])} {shlex.quote(there)} && virsh change-media {name} {target} {shlex.quote(there)} --update {where}"
            return f" Take the medium out ({eject}), or move it and put it in again ({move})."
        return f" Take the medium out: {eject}"
    if code == _ABSENT and disk["device"] == "disk" and not disk["root"]:
        return f" Put the file back, or let the guest go on without this disk: virsh detach-disk {name} {target} --config"
    return ""
