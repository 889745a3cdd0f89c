# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What would make a request fit: computed, not guessed, since every filter was asked about every host.

A host with a single reason against it takes the guest as soon as that reason is gone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.context import Context
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.filters.base import Rejection, plain
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.host_state import HostState
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.validation import number

Rejected = Mapping[str, Sequence[Rejection]]

_SHOWN = 5
_CURES = {
    "not_target_host": "another target host: {hosts}",
    "ignored_host": "not ignoring {hosts}",
    "same_host": "growing in place on {hosts} (allow_resize_to_same_host)",
    "disabled": "enabling {hosts}",
    "maintenance": "ending the maintenance of {hosts}",
    "cpu_unlike": "another CPU on {hosts} (allow_unlike_cpu)",
}
_ZONES = ("other_zone", "zone_unknown")
_CAPACITIES = ("vcpus", "ram", "disk")


def suggest(context: Context, rejected: Rejected) -> list[dict[str, Any]]:
    """Each with `kind`, `hosts`, `text`, and `zone`, `guest` or `flavor` where it is about one; none of them was tried."""
    alone: dict[tuple[str, str | None], list[str]] = {}
    short: dict[str, dict[str, float]] = {}
    for name, reasons in rejected.items():
        code = reasons[0]["code"]
        if len(reasons) == 1 and (code in _CURES or code in _ZONES):
            zone = context.hosts[name].availability_zone if code in _ZONES else None
            alone.setdefault(("zone" if zone else code, zone), []).append(name)
        elif code in _CAPACITIES and all(reason["code"] in _CAPACITIES for reason in reasons):
            short[name] = {reason["code"]: reason["have"] for reason in reasons}
    return [*_single_reasons(alone), *_room(context, short)]


def _single_reasons(alone: Mapping[tuple[str, str | None], list[str]]) -> Iterator[dict[str, Any]]:
    for (kind, zone), hosts in sorted(alone.items(), key=lambda item: -len(item[1])):
        if zone:
            yield {"kind": kind, "zone": zone, "hosts": hosts, "text": f"zone {zone}: {_listed(hosts)}"}
        else:
            yield {"kind": kind, "hosts": hosts, "text": _CURES[kind].format(hosts=_listed(hosts))}


def _room(context: Context, short: Mapping[str, Mapping[str, float]]) -> Iterator[dict[str, Any]]:
    """The smallest guest whose leaving makes room somewhere, and what the host that comes nearest has room for."""
    flavor = context.request.flavor
    need = {"vcpus": flavor.vcpus, "ram": flavor.ram, "disk": flavor.disk_mb}
    leaving = [found for name, have in short.items() if (found := _smallest_guest(context, context.hosts[name], need, have))]
    if leaving:
        host, guest = min(leaving, key=lambda item: (item[1]["memory_mb"], item[1]["vcpus"]))
        text = f"moving {guest['name']} ({guest['vcpus']} vCPUs, {guest['memory_mb']} MB memory) off {host}"
        yield {"kind": "drain", "hosts": [host], "guest": guest["name"], "text": text}
    fitting = {name: {**need, **have} for name, have in short.items() if min(have.values()) > 0}
    if fitting:
        host = max(fitting, key=lambda name: min(fitting[name][key] / need[key] for key in need if need[key]))
        room = {key: plain(value) for key, value in fitting[host].items()}
        text = f"a flavor of at most {room['vcpus']} vCPUs, {room['ram']} MB memory, {room['disk']} MB disk: {host}"
        yield {"kind": "flavor", "hosts": [host], "flavor": {"vcpus": room["vcpus"], "ram": room["ram"], "disk_mb": room["disk"]}, "text": text}


def _smallest_guest(context: Context, host: HostState, need: Mapping[str, float], have: Mapping[str, float]) -> tuple[str, Mapping[str, Any]] | None:
    totals = {"vcpus": host.vcpus.total, "ram": host.memory_mb.total, "disk": host.disk_mb.total}
    if any(need[key] > totals[key] for key in need):
        return None
    missing = {key: need[key] - have[key] for key in have}
    enough = []
    for guest in host.mappings("domains"):
        vcpus, ram, disk_gb = (number(f"{host.path}.domains.{key}", guest.get(key) or 0, 0) for key in ("vcpus", "memory_mb", "disk_gb"))
        gives = {"vcpus": vcpus, "ram": ram, "disk": disk_gb * 1024}
        if guest.get("uuid") != context.request.instance.uuid and all(gives[key] >= missing[key] for key in missing):
            enough.append({"name": str(guest.get("name")), "vcpus": gives["vcpus"], "memory_mb": gives["ram"]})
    return (host.name, min(enough, key=lambda guest: (guest["memory_mb"], guest["vcpus"]))) if enough else None


def _listed(names: Sequence[str]) -> str:
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
