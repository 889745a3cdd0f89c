# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether this host could use the disks that a guest has in network storage, as far as that shows without opening them."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterable, Iterator
from typing import Any

from . import qemu_img as _qemu_img

PORTS = {"nbd": (10809,), "iscsi": (3260,), "gluster": (24007,), "rbd": (3300, 6789), "http": (80,), "https": (443,), "ftp": (21,), "ftps": (990,)}
_TIMEOUT = 3.0  # seconds


def reasons(disks: Iterable[dict[str, Any]]) -> Iterator[tuple[str, str]]:
    """Code and sentence of everything that a disk needs and this host lacks.

    :param disks: `target`, `protocol`, `name`, `hosts` and `files` as `_domain.definition.NetworkDisk`.
    """
    for disk in disks:
        what = f"disk {disk['target']} ({disk['protocol']}{' ' + disk['name'] if disk['name'] else ''})"
        if not _qemu_img.has_driver(disk["protocol"]):
            yield "protocol_missing", f"QEMU here has no driver {disk['protocol']}, which {what} needs: install it (Debian, Ubuntu: qemu-block-extra)"
        for path in disk["files"]:
            if not os.path.exists(path):
                yield "file_missing", f"the file {path}, which {what} needs, does not exist here"
        if disk["hosts"] and not any(_answers(disk["protocol"], server) for server in disk["hosts"]):
            servers = ", ".join(f"{server['name']}:{server['port'] or PORTS[disk['protocol']][0]}" for server in disk["hosts"])
            yield "server_unreachable", f"no server of {what} takes a connection from here: {servers}"


def _answers(protocol: str, server: dict[str, Any]) -> bool:
    for port in (server["port"],) if server["port"] else PORTS[protocol]:
        with contextlib.suppress(OSError), socket.create_connection((server["name"], port), _TIMEOUT):
            return True
    return False
