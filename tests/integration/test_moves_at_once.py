# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Many moves at once, each by a controller of its own: all arrive, no host is promised twice, and a base travels once a host."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from support.faults import QUICK, Subject
from support.fleet import Fleet
from support.guest import Guests
from support.lab import IMAGES, Host, Lab

pytestmark = pytest.mark.whole_fleet

MIB = 2**20
BASE = "wave"
LIMIT = 4
RESIZE = {"flavor": "medium", "resize_allow_resize_to_same_host": False, "migrate_bandwidth_limit": f"{LIMIT}M", **QUICK}


@dataclass(frozen=True)
class Wave:
    """How many guests leave each host, which are the hosts that hold the base, and for how many more guests each has room.

    Whatever the order in which claims arrive, each guest finds room at one of the three other hosts.
    """

    leaving: dict[str, int]
    room: dict[str, int]
    timeout: float


WAVES = {3: Wave({"kvm1": 3}, {"kvm2": 2, "kvm3": 1, "kvm4": 0}, 300), 8: Wave({"kvm1": 4, "kvm2": 4}, {"kvm1": 2, "kvm2": 2, "kvm3": 3, "kvm4": 3}, 900)}


@pytest.fixture
def wave(lab: Lab, request: pytest.FixtureRequest) -> Iterator[Wave]:
    """The wave, with a base of its own where it begins."""
    wave = WAVES[request.param]
    for host in wave.leaving:
        lab.call("base", "put", BASE, "--host", host, "--stamp", f"{BASE}-{request.param}")
    yield wave
    for host in wave.leaving:
        lab.call("base", "remove", BASE, "--host", host)


def promised_mb(host: Host) -> int:
    """Memory that guests of this host have or may get back, counted from libvirt and from sealed disks alone; all of these began as small."""
    defined = [host.virsh("dominfo", name).split("Max memory:")[1].split()[0] for name in host.domains]
    return sum(map(int, defined)) // 1024 + 256 * sum(".sealed-" in path for path in host.files())


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("wave", [3, 8], indirect=True)
def test_many_moves_at_once(lab: Lab, guests: Guests, fleet: Fleet, wave: Wave, capsys: pytest.CaptureFixture[str]) -> None:
    """A bandwidth limit holds for each of them, and in the end all are confirmed at once."""
    small, medium = (fleet.flavors[name]["ram"] for name in ("small", "medium"))
    subjects: dict[str, Subject] = {}
    limits_mb: dict[str, int] = {}
    for host, count in wave.leaving.items():
        for number in range(count):
            guest = guests.create(f"{host}-{number}", host, "--base", BASE)
            subjects[guest.name] = Subject(lab, guest, guest.write(24))
    for host in lab.hosts:
        used = small * wave.leaving.get(host, 0)
        limits_mb[host] = used + medium * wave.room.get(host, 0)
        fleet.hosts[host]["kvmfleet_zone"] = "north"
        fleet.free_memory(host, limits_mb[host] - used + medium // 2, used=used)
    base = lab["kvm1"].allocated_bytes(f"{IMAGES}/base/{BASE}.qcow2")
    sent = {name: host.sent_bytes for name, host in lab.hosts.items()}
    began = time.monotonic()

    started = {name: fleet.start("resize", instance=name, **RESIZE) for name in subjects}
    moved = {name: playing.wait(wave.timeout).ok().migration for name, playing in started.items()}

    seconds = time.monotonic() - began
    wire = sum(host.sent_bytes - sent[name] for name, host in lab.hosts.items())
    for name, subject in subjects.items():
        assert subject.runs_once_with_its_data() == moved[name]["destination"] != moved[name]["source"]
    promised = {name: promised_mb(host) for name, host in lab.hosts.items()}
    assert not [name for name, mib in promised.items() if mib > limits_mb[name]], (promised, limits_mb)

    receivers = {one["destination"] for one in moved.values()} - set(wave.leaving)
    brought = {host: [one["base_bytes"] for one in moved.values() if one["destination"] == host] for host in lab.hosts}
    for host, sizes in brought.items():
        assert len([size for size in sizes if size]) == (host in receivers), brought
        assert sum(sizes) <= base
    overlays = sum(one["overlay_bytes"] for one in moved.values())
    assert wire <= 1.05 * (base * len(receivers) + overlays) + 2 * MIB * len(moved)
    rates = {}
    for name, one in moved.items():
        (timings,) = (record["timings"] for record in lab[one["destination"]].records() if record["uuid"] == one["migration_uuid"])
        size = one["overlay_bytes"] / MIB
        rates[name] = size / (timings["copied_at"] - timings["began_at"])
        assert rates[name] < LIMIT * size / (size - 2 * LIMIT) + 0.3, rates  # two seconds' worth go through at once
    with capsys.disabled():
        print(
            f"\n{len(moved)} moves in {seconds:.0f} s, {overlays / MIB:.0f} MiB of overlays and {len(receivers)} x {base / MIB:.0f} MiB of base, "
            f"{wire / MIB:.0f} MiB sent, each at most {max(rates.values()):.1f} MiB/s; MiB promised: {promised} of {limits_mb}"
        )

    fleet.vars["kvmfleet_resize_confirm_window"] = 1
    fleet.play("auto_confirm").ok()
    of_these = {one["migration_uuid"] for one in moved.values()}
    assert {record["status"] for host in lab.hosts.values() for record in host.records() if record["uuid"] in of_these} == {"confirmed"}
    assert not [line for line in lab.leftovers() if "claims" in line or "exports" in line or ".sealed-" in line]
