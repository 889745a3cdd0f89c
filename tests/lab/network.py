# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab's network: one bridge on the machine, one cable to every host."""

from __future__ import annotations

import hashlib
import ipaddress
import json

from .errors import LabError
from .settings import HostDescription, Lab, fleet_hosts
from .shell import run

HOST_BRIDGE = "br0"


def refuse_conflicts(lab: Lab) -> None:
    """Fail if the machine already uses the names or addresses of a lab that is to be made."""
    if _link_exists(lab.bridge):
        raise LabError(f"network link {lab.bridge} exists and is not of this lab; choose another KVMFLEET_LAB_PREFIX")
    for route in json.loads(run(["ip", "-json", "-4", "route", "show", "table", "all"]).stdout or "[]"):
        if route["dst"] != "default" and ipaddress.IPv4Network(route["dst"]).overlaps(lab.subnet):
            raise LabError(f"subnet {lab.subnet} overlaps the machine's route to {route['dst']}; choose another KVMFLEET_LAB_SUBNET")


def ensure_bridge(lab: Lab) -> None:
    """Make the lab's bridge, with the machine's address on it."""
    if not _link_exists(lab.bridge):
        run(["ip", "link", "add", lab.bridge, "type", "bridge"])
    run(["ip", "address", "replace", f"{lab.controller_address}/{lab.subnet.prefixlen}", "dev", lab.bridge])
    run(["ip", "link", "set", lab.bridge, "up"])


def remove_bridge(lab: Lab) -> None:
    """Remove the bridge and what a killed `up` left of cables."""
    for link in [_cable(lab, host) for host in fleet_hosts()] + [lab.bridge]:
        if _link_exists(link):
            run(["ip", "link", "delete", link], check=False)
    if _link_exists(lab.bridge):
        raise LabError(f"network link {lab.bridge} cannot be removed")


def connect_host(lab: Lab, host: HostDescription, pid: int) -> None:
    """Connect a host's namespace: its bridge `br0` carries its address and takes guests."""
    inside = ["nsenter", f"--target={pid}", "--net", "ip"]
    cable = _cable(lab, host)
    mac = _mac_address(lab, host)
    if run([*inside, "link", "show", "eth0"], check=False).returncode:
        if _link_exists(cable):
            run(["ip", "link", "delete", cable])
        run(["ip", "link", "add", cable, "type", "veth", "peer", "name", "eth0", "address", mac, "netns", str(pid)])
    if run([*inside, "link", "show", HOST_BRIDGE], check=False).returncode:
        run([*inside, "link", "add", HOST_BRIDGE, "address", mac, "type", "bridge"])
    run(["ip", "link", "set", cable, "master", lab.bridge, "up"])
    run([*inside, "link", "set", "lo", "up"])
    run([*inside, "link", "set", "eth0", "master", HOST_BRIDGE, "up"])
    run([*inside, "address", "replace", f"{lab.address(host)}/{lab.subnet.prefixlen}", "dev", HOST_BRIDGE])
    run([*inside, "link", "set", HOST_BRIDGE, "up"])


def _cable(lab: Lab, host: HostDescription) -> str:
    return f"{lab.prefix}-{host.name}"


def _mac_address(lab: Lab, host: HostDescription) -> str:
    digest = hashlib.sha256(f"{lab.id}/{host.name}".encode()).hexdigest()
    return "02:" + ":".join(digest[index : index + 2] for index in range(0, 10, 2))


def _link_exists(name: str) -> bool:
    return run(["ip", "link", "show", name], check=False).returncode == 0
