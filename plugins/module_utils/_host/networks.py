# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What guests are plugged into on this host: bridges and libvirt networks, and how long a frame they carry (MTU)."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from .._libvirt import connection as _connection
from .._system import processes as _processes


def bridges() -> dict[str, int]:
    """The MTU in bytes of each bridge in the network namespace of this process, which sysfs need not show."""
    try:
        listed = _processes.run(["ip", "-json", "link", "show", "type", "bridge"], stall=10)
    except FileNotFoundError:
        return {name: _mtu_in_sysfs(name) for name in os.listdir("/sys/class/net") if os.path.isdir(f"/sys/class/net/{name}/bridge")}
    listed.check_returncode()
    return {link["ifname"]: link["mtu"] for link in json.loads(listed.stdout or "[]") if "ifname" in link}


def mtu(connection: Any, kind: str, source: str, known: Mapping[str, int]) -> int | None:
    """The MTU of a `network` or `bridge` that an interface is plugged into; None where there is none, or it is no bridge.

    :param known: what `bridges` returned.
    """
    bridge = _connection.network_bridge(connection, source) if kind == "network" else source if kind == "bridge" else None
    return known.get(bridge) if bridge else None


def shorter(connection: Any, needed: Iterable[Mapping[str, Any]], known: Mapping[str, int]) -> Iterator[tuple[Mapping[str, Any], int]]:
    """Those of the wanted `type`, `source` and `mtu` whose frames do not fit here, and the MTU here."""
    for nic in needed:
        have = mtu(connection, nic["type"], nic["source"], known)
        if have is not None and have < nic["mtu"]:
            yield nic, have


def _mtu_in_sysfs(name: str) -> int:
    with open(f"/sys/class/net/{name}/mtu", encoding="ascii") as stream:
        return int(stream.read())
