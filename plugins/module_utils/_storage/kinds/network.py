# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A disk in network storage, which stays where it is: both hosts reach it there."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

from ..._domain import definition as _definition
from ..._libvirt import blocks as _blocks
from ..._rules.errors import shown
from .kind import Examined, Kind


class Network(Kind):
    """Nothing of it travels, and nothing about it is changed."""

    source_types = ("network",)
    by_path = False

    def facts(self, guest: Examined, disk: _definition.Disk) -> dict[str, Any]:
        """Where it is, and its size, which shows only while the guest runs."""
        found = (asdict(network) for network in _definition.network_disks(guest.root) if network.target == disk.target)
        return {"network": network, "virtual_size": _blocks.block_size(guest.domain, disk.target)} if (network := next(found, None)) else {}

    def strange(self, root: ET.Element, requirements: Mapping[str, Any]) -> Iterator[str]:
        planned = [dict(disk) for disk in requirements.get("network_disks") or ()]
        for disk in _definition.network_disks(root):
            if asdict(disk) not in planned:
                yield f"its disk {shown(disk.target)} is in {shown(disk.protocol)} storage {shown(str(disk.name))}, as the plan does not say"
