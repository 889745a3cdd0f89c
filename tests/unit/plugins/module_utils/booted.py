# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A guest of one sector that really runs: it boots in a second without KVM, takes as long to shut down as it is told, and can count its boots on its disk."""

from __future__ import annotations

import os
import struct
import subprocess
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import libvirt

from ansible_collections.kvmfleet.compute.plugins.module_utils._domain import definition as _definition
from ansible_collections.kvmfleet.compute.plugins.module_utils._journal.records import Journal
from ansible_collections.kvmfleet.compute.plugins.module_utils._libvirt import definitions as _definitions
from ansible_collections.kvmfleet.compute.plugins.module_utils._storage import qemu_img as _qemu_img

_TICKS = 18.2  # of the BIOS, a second
_CODE = bytes.fromhex(
    "fa31c08ed88ec08ed0bc007cfb"  # no interrupts meanwhile; segments 0, a stack below this sector
    "ba0206b80001ef"  # PM1_EN of the q35: the power button
    "803efd7d007410"  # not told to count: go on at `wait`
    "b80102e83600ff060080b80103e82c00"  # read the second sector, add one to its first word, write it
    "f4ba0006eda9000174f6"  # wait: until PM1_STS tells that the button was pressed
    "668b1e6c04660fb70efb7d6601cb"  # the ticks of now and those to wait
    "f4668b0e6c046639d972f5"  # until they are over
    "ba0406b80020efebec"  # PM1_CNT: off (S5)
    "bb0080b90200ba8000cd13c3"  # the second sector of the first disk, to or from 0x8000, through the BIOS
)
NEVER = 3500.0
"""Seconds to shut down that no test waits for."""


def write(path: Path | str, *, seconds: float = 0.0, counts: bool = False) -> str:
    """A raw image of 1 MiB with the guest, which needs so many seconds to shut down."""
    sector = _CODE.ljust(507, b"\0") + struct.pack("<HBH", round(seconds * _TICKS), counts, 0xAA55)
    Path(path).write_bytes(sector.ljust(1024 * 1024, b"\0"))
    return str(path)


def boots(path: str, image_format: str = "raw") -> int:
    """How often a guest that counts has booted from the image."""
    command = ["qemu-io", "-U", "-r", "-f", image_format, "-c", "read -v 512 2", path]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    return int(said[2] + said[1], 16)


def definition(name: str, disks: dict[str, tuple[str, str]], events: str = "", devices: str = "") -> str:
    """:param disks: target -> path and format; :param events: `<on_poweroff>` and the like."""
    found = "".join(
        f"<disk type='file' device='disk'><driver name='qemu' type='{image_format}'/><source file='{path}'/><target dev='{target}' bus='virtio'/></disk>"
        for target, (path, image_format) in disks.items()
    )
    return (
        f"<domain type='qemu'><name>{name}</name><uuid>{uuid.uuid5(uuid.NAMESPACE_DNS, name)}</uuid><memory unit='MiB'>64</memory><vcpu>1</vcpu>"
        f"<os><type arch='x86_64' machine='q35'>hvm</type></os><features><acpi/></features>{events}<devices>{found}{devices}</devices></domain>"
    )


def wait_for(what: Callable[[], bool], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


def start(domain: libvirt.virDomain) -> None:
    """Start a guest that counts its boots, and wait until it has, so that it knows the power button."""
    domain.create()
    (path, image_format) = next((disk["path"], disk["format"]) for disk in _disks(domain))
    before = boots(path, image_format)
    try:
        wait_for(lambda: boots(path, image_format) > before, 30)
    except AssertionError:
        # Without KVM the firmware stands still once in some hundred boots. Nothing of what is tested has begun yet.
        domain.reset()
        wait_for(lambda: boots(path, image_format) > before)


def record_of(journal: Journal, domain: libvirt.virDomain, role: str, images: Path, **more: Any) -> dict[str, Any]:
    """The open record of an operation on the guest, as a plan would begin it."""
    disks = []
    for disk in _disks(domain):
        layers = _qemu_img.chain(disk["path"], disk["format"], [str(images)], force_share=True)
        disks.append({
            **disk, "kind": "disk", "pool": None, "volume": None, "chain": [[layer.path, layer.format, layer.virtual_size] for layer in layers],
            "allocated_bytes": layers[0].actual_size, "virtual_size": layers[0].virtual_size, "encrypted": False, "base": None, "bases": [], "grow_to": None,
        })  # fmt: skip
    flavor = {"name": None, "vcpus": 1, "ram": 64, "disk": 1, "ephemeral": 0, "swap": 0, "extra_specs": {}}
    record = {
        "uuid": str(uuid.uuid4()), "owner": "me", "role": role, "instance_uuid": domain.UUIDString(), "instance_name": domain.name(),
        "migration_type": "resize", "source_host": "kvm1", "destination_host": "kvm1" if role == "in_place" else "kvm2", "old_flavor": flavor,
        "new_flavor": {**flavor, "ram": 96}, "xml_digest": _definitions.fingerprint(domain), "agent_expected": False, "disks": disks, "new_disks": [],
        "nvram": None, "tpm": False, "console_logs": [], "secrets": [], "image_directories": [str(images)], "availability_zone": None, "tuning": None,
        "probes": {},
    }  # fmt: skip
    return journal.begin({**record, **more})


def _disks(domain: libvirt.virDomain) -> list[dict[str, str]]:
    found = _definition.disks(_definition.parse(_definitions.inactive_xml(domain)))
    return [{"target": disk.target, "path": os.fspath(disk.path), "format": disk.format} for disk in found]
