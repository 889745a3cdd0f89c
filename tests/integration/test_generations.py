# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Two generations of Debian in one fleet: other versions of libvirt, QEMU, Python, nbdkit, swtpm and sshd on either end of a move."""

from __future__ import annotations

import platform
import re
from collections.abc import Iterator
from typing import NamedTuple

import pytest
from support import tpm
from support.definition import add_devices, replace
from support.faults import Subject
from support.fleet import Fleet
from support.guest import Guest, Guests
from support.lab import Host, Lab

pytestmark = [pytest.mark.slow, pytest.mark.whole_fleet]

GENERATIONS = ("bookworm", "trixie")
MAKING = 1800.0  # seconds, the download of a system included
AHEAD = {"migrate_precopy": "always"}


class Pair(NamedTuple):
    older: str
    newer: str


@pytest.fixture(scope="module")
def pair(lab: Lab) -> Iterator[Pair]:
    """kvm1 shares the machine's Debian, kvm4 has the other one."""
    own = GENERATIONS.index(platform.freedesktop_os_release()["VERSION_CODENAME"])
    lab.call("host", "renew", "kvm4", "--generation", GENERATIONS[1 - own], timeout=MAKING)
    yield Pair("kvm1", "kvm4") if own == 0 else Pair("kvm4", "kvm1")
    lab.call("host", "renew", "kvm4")


@pytest.fixture
def fleet(fleet: Fleet, pair: Pair) -> Fleet:
    """The two of them, in one zone."""
    fleet.hosts = {name: {**variables, "kvmfleet_zone": "north"} for name, variables in fleet.hosts.items() if name in pair}
    return fleet


def machine(guest: Guest) -> str:
    return re.findall(r"machine='([^']+)'", guest.xml)[0]


def machines(host: Host) -> set[str]:
    """All machine types that a host knows."""
    return set(re.findall(r"<machine[^>]*>([^<]+)</machine>", host.virsh("capabilities")))


def newest(known: set[str], kind: str) -> str:
    return max(
        (name for name in known if re.fullmatch(rf"{kind}-[\d.]+", name)), key=lambda name: [int(number) for number in re.findall(r"\d+", name[len(kind) :])]
    )


def test_a_guest_moves_to_a_newer_host_and_back(lab: Lab, fleet: Fleet, guests: Guests, pair: Pair) -> None:
    """With its firmware variables, most of its disk copied ahead; it keeps the machine that its libvirt chose for it once. Revert is the identity."""
    guest = guests.create("web", pair.older, "--firmware", "uefi")
    subject, before, identity = Subject(lab, guest, guest.write(32)), guest.xml, guest.identity
    assert machine(guest) == newest(machines(lab[pair.older]), "pc-q35")
    run = fleet.resize("web", "medium", **AHEAD).ok()
    assert (run.migration["destination"], run.migration["transport"], run.migration["copied_by"]) == (pair.newer, "nbdkit", "nbdcopy")
    assert run.migration["precopy"]["rounds"] >= 1
    assert subject.runs_once_with_its_data() == pair.newer
    assert guest.look().is_flavor(fleet.flavors["medium"])
    assert guest.identity == identity
    fleet.play("revert", instance="web").ok()
    assert (subject.runs_once_with_its_data(), guest.xml) == (pair.older, before)

    fleet.play("migrate", instance="web").ok()
    fleet.play("confirm", instance="web").ok()
    assert (subject.runs_once_with_its_data(), guest.identity) == (pair.newer, identity)
    fleet.play("migrate", instance="web").ok()
    assert (subject.runs_once_with_its_data(), guest.identity) == (pair.older, identity)
    fleet.play("confirm", instance="web").ok()


def test_a_machine_that_the_older_host_does_not_know_stays(lab: Lab, fleet: Fleet, guests: Guests, pair: Pair) -> None:
    """Whether it would only move or be resized too; the refusal lists what the older host knows. The guest has not noticed anything."""
    guest = guests.create("web", pair.newer)
    subject, boot_id = Subject(lab, guest, guest.write()), guest.look().boot_id
    assert machine(guest) == newest(machines(lab[pair.newer]), "pc-q35")
    known = newest(machines(lab[pair.older]), "pc-q35")
    for run in (fleet.play("migrate", instance="web"), fleet.resize("web", "medium"), fleet.play("plan", instance="web")):
        assert "No host can take web" in run.refused()
        verdict = run.verdicts[pair.older]
        assert re.search(rf"MachineTypeFilter: does not know the machine type {machine(guest)}; of its kind it knows pc-q35-\S+,.* {known}\b", verdict), verdict
        assert run.changed == 0
    subject.is_untouched(boot_id, pair.newer)


def test_a_cpu_model_that_the_older_host_does_not_know_stays(lab: Lab, fleet: Fleet, guests: Guests, pair: Pair) -> None:
    common = newest(machines(lab[pair.older]), "pc-i440fx")
    guest = guests.create("web", pair.newer, "--machine", common, start=False)
    models = [set(lab[name].virsh("cpu-models", "x86_64").split()) for name in pair]
    model = min(models[1] - models[0])
    given = re.search(r"<cpu .*?(?:</cpu>|/>)", guest.xml, re.DOTALL)[0]
    replace(guest.host, "web", given, f"<cpu mode='custom' match='exact' check='none'><model fallback='forbid'>{model}</model></cpu>")
    assert f"CpuCompatibilityFilter: does not know the CPU model {model}" in fleet.play("migrate", instance="web").refused()
    assert guest.hosts == [pair.newer]


def test_a_guest_of_a_machine_that_both_know_moves_to_an_older_host(lab: Lab, fleet: Fleet, guests: Guests, pair: Pair) -> None:
    """The channel and the tools work the other way round too, ahead and while it is off."""
    common = newest(machines(lab[pair.older]), "pc-i440fx")
    guest = guests.create("web", pair.newer, "--machine", common)
    subject, before = Subject(lab, guest, guest.write(32)), guest.xml
    run = fleet.resize("web", "medium", **AHEAD).ok()
    assert (run.migration["destination"], run.migration["transport"], run.migration["copied_by"]) == (pair.older, "nbdkit", "nbdcopy")
    assert (subject.runs_once_with_its_data(), machine(guest)) == (pair.older, common)
    fleet.play("revert", instance="web").ok()
    assert (subject.runs_once_with_its_data(), guest.xml) == (pair.newer, before)


def test_what_belongs_to_a_guest_is_understood_by_newer_programs(lab: Lab, fleet: Fleet, guests: Guests, pair: Pair) -> None:
    """A snapshot with the memory of the guest, and what its TPM has sealed."""
    guest = guests.create("web", pair.older, start=False)
    add_devices(guest.host, "web", tpm.device())
    guest.host.virsh("start", "web")
    old = guest.wait().write()
    guest.host.virsh("snapshot-create-as", "web", "first")
    subject, sealed = Subject(lab, guest, guest.write()), tpm.Sealed(guest)
    fleet.play("migrate", instance="web").ok()
    assert (subject.runs_once_with_its_data(), sealed.opens()) == (pair.newer, True)
    assert "first" in lab[pair.newer].virsh("snapshot-list", "web", "--name")
    fleet.play("revert", instance="web").ok()
    assert (subject.runs_once_with_its_data(), sealed.opens()) == (pair.older, True)

    fleet.play("migrate", instance="web").ok()
    fleet.play("confirm", instance="web").ok()
    lab[pair.newer].virsh("snapshot-revert", "web", "first", "--force")
    assert guest.look().data == old
