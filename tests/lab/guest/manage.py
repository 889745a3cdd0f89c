# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Making, finding and removing guests."""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .. import bases
from ..errors import LabError, LabFault
from ..fleet import all_hosts, host_named, in_parallel
from ..host import Host
from ..settings import Lab, fleet_flavors
from . import agent
from .domain import Domain
from .standstill import Standstill

IMAGES = Path("/var/lib/libvirt/images")


@dataclass(frozen=True)
class GuestOrder:
    """A guest to be made."""

    name: str
    flavor: str
    host: str
    start: bool = True
    base: str = bases.DEFAULT_NAME
    mac: str | None = None
    machine: str = "q35"
    uefi: bool = False
    ignore_shutdown: bool = False
    disk_gb: int | None = None


def create(lab: Lab, order: GuestOrder) -> None:
    """Make a guest on a host of the lab."""
    flavors = fleet_flavors()
    if order.flavor not in flavors:
        raise LabError(f"unknown flavor {order.flavor}: choose from {', '.join(flavors)}")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", order.name):
        raise LabError(f"a guest's name must consist of letters, digits, '.', '_' and '-': {order.name!r}")
    host, flavor = host_named(lab, order.host), flavors[order.flavor]
    holders = hosts_defining(lab, order.name)
    if holders:
        raise LabError(f"guest {order.name} exists already on {', '.join(holder.name for holder in holders)}")
    bases.ensure(host, order.base)
    disk = IMAGES / f"{order.name}.qcow2"
    size = f"{order.disk_gb or flavor['disk']}G"
    host.run(["qemu-img", "create", "-q", "-f", "qcow2", "-b", str(bases.path_of(order.base)), "-F", "qcow2", str(disk), size])
    domain = Domain(
        name=order.name,
        vcpus=flavor["vcpus"],
        memory_mb=flavor["ram"],
        disk=disk,
        mac=order.mac or "52:54:00:" + ":".join(f"{byte:02x}" for byte in secrets.token_bytes(3)),
        machine=order.machine,
        kvm=lab.kvm,
        uefi=order.uefi,
        ignore_shutdown=order.ignore_shutdown,
    )
    host.virsh("define", "/dev/stdin", stdin=domain.to_xml())
    if order.start:
        host.virsh("start", order.name)


def listing(lab: Lab) -> list[tuple[str, str, str]]:
    """Return guest, host and state of every guest in the lab."""

    def of_host(host: Host) -> list[tuple[str, str, str]]:
        names = host.virsh("list", "--all", "--name").stdout.split("\n")
        return [(name, host.name, _state(host, name)) for name in names if name]

    return sorted(guest for guests in in_parallel(of_host, _living_hosts(lab)) for guest in guests)


def hosts_defining(lab: Lab, name: str) -> list[Host]:
    """Return the hosts that define a guest."""
    defining = in_parallel(lambda host: host if host.virsh("domuuid", name, check=False).returncode == 0 else None, _living_hosts(lab))
    return [host for host in defining if host]


def execute(lab: Lab, name: str, argv: Sequence[str], host: str | None, timeout: float) -> agent.AgentResult:
    """Run a program inside a running guest."""
    return agent.execute(_host_running(lab, name, host), name, argv, timeout)


def wait(lab: Lab, name: str, host: str | None, timeout: float) -> None:
    """Wait until the agent of a running guest answers; `LabFault` where its emulation stands still."""
    place = _host_running(lab, name, host)
    deadline, standstill = time.monotonic() + timeout, Standstill(place, name)
    while not agent.answers(place, name):
        if not lab.kvm and standstill.noticed():
            raise LabFault(f"guest {name} on {place.name} stands still; {_condition(place, name)}")
        if time.monotonic() > deadline:
            raise LabError(f"the agent of guest {name} on {place.name} does not answer within {timeout:.0f} s; {_condition(place, name)}")
        time.sleep(0.2)


def delete(lab: Lab, name: str) -> None:
    """Remove a guest and its disks from every host that defines it; bases remain."""
    holders = hosts_defining(lab, name)
    if not holders:
        raise LabError(f"no host defines guest {name}")
    for host in holders:
        lines = host.virsh("domblklist", name, "--details").stdout.splitlines()
        disks = [fields[3] for fields in (line.split(maxsplit=3) for line in lines) if fields[:2] == ["file", "disk"] and Path(fields[3]).parent == IMAGES]
        host.virsh("destroy", name, check=False)
        host.virsh("undefine", name, "--nvram", "--managed-save", "--snapshots-metadata", "--checkpoints-metadata")
        host.run(["rm", "--force", "--", *disks, str(_console(name))])


def _living_hosts(lab: Lab) -> list[Host]:
    return [host for host in all_hosts(lab) if host.pid is not None]


def _host_running(lab: Lab, name: str, host: str | None) -> Host:
    candidates = [host_named(lab, host)] if host else hosts_defining(lab, name)
    running = [candidate for candidate in candidates if _state(candidate, name) == "running"]
    if len(running) != 1:
        places = ", ".join(candidate.name for candidate in running) or "no host"
        states = "; ".join(f"{candidate.name}: {_reason(candidate, name)}" for candidate in candidates)
        raise LabError(f"guest {name} runs on {places}, expected exactly one ({states or 'no host defines it'})")
    return running[0]


def _reason(host: Host, name: str) -> str:
    """Its state, and why it is in it."""
    return host.virsh("domstate", "--reason", name, check=False).stdout.strip()


def _condition(host: Host, name: str) -> str:
    """What there is to be known of a guest whose agent is silent."""
    processors = host.virsh("domstats", name, "--state", "--vcpu", check=False).stdout
    console = host.run(["tail", "--lines=20", str(_console(name))], check=False).stdout
    agent = host.virsh("qemu-agent-command", name, '{"execute": "guest-ping"}', "--timeout", "5", check=False).stderr
    return "\n".join(("libvirt says:", processors.strip(), agent.strip(), "its console ends with:", console.strip()))


def _console(name: str) -> Path:
    return Path(f"/var/log/libvirt/qemu/{name}-console.log")


def _state(host: Host, name: str) -> str:
    return host.virsh("domstate", name, check=False).stdout.strip() or "undefined"
