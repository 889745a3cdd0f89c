# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A disk in network storage, which stays where it is: both hosts reach it there."""

from __future__ import annotations

import contextlib
import os
import socket
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

from ..._domain import definition as _definition
from ..._rules.errors import shown
from .. import qemu_img as _qemu_img
from .kind import Examined
from .other import Other

PORTS = {"nbd": (10809,), "iscsi": (3260,), "gluster": (24007,), "rbd": (3300, 6789), "http": (80,), "https": (443,), "ftp": (21,), "ftps": (990,)}
_TIMEOUT = 3.0  # seconds


class Network(Other):
    """Nothing of it travels, and nothing about it is changed."""

    source_types = ("network",)
    by_path = False
    travels = False
    makes_directories = False

    def facts(self, guest: Examined, disk: _definition.Disk) -> dict[str, Any]:
        """Where it is, and its size, which shows only while the guest runs."""
        found = (asdict(network) for network in _definition.network_disks(guest.root) if network.target == disk.target)
        return {"network": network, "virtual_size": guest.size(disk.target)} if (network := next(found, None)) else {}

    def strange(self, root: ET.Element, requirements: Mapping[str, Any]) -> Iterator[str]:
        planned = [dict(disk) for disk in requirements.get("network_disks") or ()]
        for disk in _definition.network_disks(root):
            if asdict(disk) not in planned:
                yield f"its disk {shown(disk.target)} is in {shown(disk.protocol)} storage {shown(str(disk.name))}, as the plan does not say"

    def unreachable(self, requirements: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        """Whether this host could use them, as far as that shows without opening them."""
        for disk in requirements.get("network_disks", ()):
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
