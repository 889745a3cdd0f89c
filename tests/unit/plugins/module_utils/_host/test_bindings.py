# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import libvirt
import pytest

from ansible_collections.kvmfleet.compute.plugins.module_utils._domain.definition import parse
from ansible_collections.kvmfleet.compute.plugins.module_utils._host import bindings as _bindings, state as _state
from ansible_collections.kvmfleet.compute.plugins.module_utils._host.state import Reserved
from ansible_collections.kvmfleet.compute.plugins.module_utils._journal.state_dir import StateDir

GUEST = "<domain type='qemu'>{}<devices>{}</devices></domain>"
ADDRESS = "<address domain='0x0000' bus='0xc1' slot='0x{:02x}' function='0x0'/>"


def guest(number: int, more: str = "") -> str:
    nic = f"<interface type='user'><mac address='52:54:00:ab:00:0{number}'/></interface>"
    return GUEST.format(f"<name>g{number}</name>{more}<memory unit='MiB'>64</memory><os><type>hvm</type></os>", nic)


def of_definitions(*definitions: str) -> _bindings.Bindings:
    return _bindings.of_definitions([parse(definition)] for definition in definitions)


@pytest.mark.parametrize(
    ("cpus", "own"),
    [
        ("<vcpu>2</vcpu><cputune><vcpupin vcpu='0' cpuset='4'/><vcpupin vcpu='1' cpuset='6'/></cputune>", {4, 6}),
        ("<vcpu cpuset='3'>1</vcpu>", {3}),
        ("<vcpu cpuset='0-7'>2</vcpu><cputune><vcpupin vcpu='0' cpuset='0,1'/><emulatorpin cpuset='5'/></cputune>", set()),
        ("", set()),
    ],
    ids=["each vCPU on one", "all on one", "floating", "not bound"],
)
def test_a_cpu_is_taken_by_a_vcpu_that_can_run_nowhere_else(cpus: str, own: set[int]) -> None:
    assert of_definitions(GUEST.format(cpus, "")).cpus == own


@pytest.mark.parametrize(
    "device",
    [
        "<hostdev mode='subsystem' type='pci' managed='yes'><source>{}</source></hostdev>",
        "<interface type='hostdev'><source>{}</source><mac address='52:54:00:00:00:01'/></interface>",
        "<interface type='network'><actual type='hostdev'><source>{}</source></actual></interface>",
        "<disk type='nvme' device='disk'><source type='pci' namespace='1'>{}</source></disk>",
    ],
)
def test_a_pci_device_is_taken_whatever_it_is_used_as(device: str) -> None:
    found = of_definitions(*(GUEST.format("", device.format(ADDRESS.format(number))) for number in (2, 31)))
    assert found.pci == {(0, 193, 2, 0), (0, 193, 31, 0)}


def test_other_host_devices_take_no_pci_device() -> None:
    usb = "<hostdev mode='subsystem' type='usb'><source><address bus='1' device='3'/></source></hostdev>"
    assert of_definitions(GUEST.format("", usb)).pci == set()


def test_the_host_state_tells_what_guests_took(qemu: libvirt.virConnect, state: StateDir, images: Any) -> None:
    for number, pins in enumerate(("<vcpu cpuset='0'>1</vcpu>", "<vcpu>1</vcpu>")):
        qemu.defineXML(guest(number, pins))
    found = _state.host_state(qemu, state, reserved=Reserved(), images_path=str(images))
    assert found["macs"] == ["52:54:00:ab:00:00", "52:54:00:ab:00:01"]
    assert sum(cell["pinned_cpus"] for cell in found["numa_cells"]) == 1


def test_a_guest_that_vanishes_meanwhile_is_left_out(qemu: libvirt.virConnect) -> None:
    gone, _stays = (qemu.defineXML(guest(number)) for number in (0, 1))
    listing: Callable[..., Any] = qemu.listAllDomains

    class Racing:
        def listAllDomains(self, flags: int) -> Any:  # noqa: N802
            found = listing(flags)
            gone.undefine()
            return found

    assert _bindings.of_guests(Racing()).macs == {"52:54:00:ab:00:01"}


def test_definitions_come_from_the_files_of_libvirt(qemu: libvirt.virConnect, tmp_path: Path) -> None:
    """What runs and what is defined, in one go; a guest without a readable file is asked about, a file without its guest left alone."""
    running, defined = tmp_path / "run", tmp_path / "etc"
    uuids = [f"0f5d8f9c-2c1e-4f0a-9d35-00000000000{number}" for number in range(4)]
    for directory in (running, defined):
        directory.mkdir()
    for number, uuid in enumerate(uuids[:3]):
        qemu.defineXML(guest(number, f"<uuid>{uuid}</uuid>"))
    (defined / "g0.xml").write_text("<!-- generated -->" + guest(5, f"<uuid>{uuids[0]}</uuid>"))
    (running / "g0.xml").write_text(f"<domstatus state='running'>{guest(6, f'<uuid>{uuids[0]}</uuid>')}</domstatus>")
    (defined / "g1.xml").write_text(guest(7, f"<uuid>{uuids[1]}</uuid>"))
    (defined / "g2.xml").write_text(guest(8, f"<uuid>{uuids[2]}</uuid>")[:-20])
    (defined / "g3.xml").write_text(guest(9, f"<uuid>{uuids[3]}</uuid>"))
    found = _bindings.of_guests(qemu, (str(running), str(defined)))
    assert found.macs == {"52:54:00:ab:00:05", "52:54:00:ab:00:06", "52:54:00:ab:00:07", "52:54:00:ab:00:02"}
