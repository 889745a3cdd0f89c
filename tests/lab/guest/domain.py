# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The domain definition of a lab guest, close to what virt-install writes."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import dataclass
from pathlib import Path

from ..network import HOST_BRIDGE


@dataclass(frozen=True)
class Domain:
    """What a guest's definition depends on."""

    name: str
    vcpus: int
    memory_mb: int
    disk: Path
    mac: str
    machine: str
    kvm: bool
    uefi: bool
    ignore_shutdown: bool

    def to_xml(self) -> str:
        """Return the definition."""
        root = ET.Element("domain", type="kvm" if self.kvm else "qemu")
        _add(root, "name", self.name)
        _add(root, "memory", self.memory_mb, unit="MiB")
        _add(root, "currentMemory", self.memory_mb, unit="MiB")
        _add(root, "vcpu", self.vcpus)
        self._add_firmware(root)
        features = _add(root, "features")
        _add(features, "acpi")
        _add(features, "apic")
        if self.kvm:
            _add(root, "cpu", mode="host-passthrough")
        _add(root, "clock", offset="utc")
        for event, action in (("on_poweroff", "destroy"), ("on_reboot", "restart"), ("on_crash", "destroy")):
            _add(root, event, action)
        self._add_devices(_add(root, "devices"))
        return ET.tostring(root, encoding="unicode")

    def _add_firmware(self, root: ET.Element) -> None:
        system = _add(root, "os", **({"firmware": "efi"} if self.uefi else {}))
        _add(system, "type", "hvm", arch="x86_64", machine=self.machine)
        if self.uefi:
            _add(_add(system, "firmware"), "feature", enabled="no", name="secure-boot")
        _add(system, "boot", dev="hd")
        if self.ignore_shutdown:
            _add(system, "smbios", mode="sysinfo")
            _add(_add(_add(root, "sysinfo", type="smbios"), "system"), "entry", "ignore-shutdown", name="family")

    def _add_devices(self, devices: ET.Element) -> None:
        disk = _add(devices, "disk", type="file", device="disk")
        _add(disk, "driver", name="qemu", type="qcow2", discard="unmap")
        _add(disk, "source", file=str(self.disk))
        _add(disk, "target", dev="vda", bus="virtio")
        interface = _add(devices, "interface", type="bridge")
        _add(interface, "mac", address=self.mac)
        _add(interface, "source", bridge=HOST_BRIDGE)
        _add(interface, "model", type="virtio")
        serial = _add(devices, "serial", type="file")
        _add(serial, "source", path=f"/var/log/libvirt/qemu/{self.name}-console.log", append="on")
        channel = _add(devices, "channel", type="unix")
        _add(channel, "target", type="virtio", name="org.qemu.guest_agent.0")
        _add(_add(devices, "rng", model="virtio"), "backend", "/dev/urandom", model="random")
        _add(devices, "memballoon", model="virtio")


def _add(parent: ET.Element, tag: str, text: object | None = None, **attributes: str) -> ET.Element:
    element = ET.SubElement(parent, tag, attributes)
    if text is not None:
        element.text = str(text)
    return element
