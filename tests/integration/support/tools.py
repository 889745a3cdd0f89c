# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Debian's own tools that make guests, on a host of the lab: virt-install, virt-clone and cloud-localds."""

from __future__ import annotations

import shutil
from pathlib import Path

from lab import bases
from lab.fleet import existing_lab, host_named
from lab.locking import exclusive
from lab.packages import ensure_installed
from lab.settings import cache_directory

from .faults import write_files
from .lab import Host, Lab

BASE = str(bases.path_of(bases.DEFAULT_NAME))
UNSIGNED = "firmware=efi,firmware.feature0.name=secure-boot,firmware.feature0.enabled=no"
"""UEFI without secure boot, which libvirt chooses for a q35 by itself, and which the loader of the lab's image is not signed for."""
_PACKAGES = ("cloud-image-utils", "virtinst")
_NAMES_OF_DEVICES = Path("/var/lib/usbutils")
"""osinfo reads them; each host has a /var of its own."""
_FIXED = ("--vcpus", "1", "--import", "--osinfo", "debian11", "--network", "bridge=br0", "--graphics", "none", "--noautoconsole")
_SEED = {"user-data": "#cloud-config\nhostname: {0}\n", "meta-data": "instance-id: iid-{0}\nlocal-hostname: {0}\n"}


def with_tools(lab: Lab, name: str) -> Host:
    """A host on which the tools can be used, and which has the base of the lab's guests."""
    with exclusive(cache_directory()):
        ensure_installed(_PACKAGES)
    place = host_named(existing_lab(), name)
    if _NAMES_OF_DEVICES.is_dir():
        shutil.copytree(_NAMES_OF_DEVICES, place.files / _NAMES_OF_DEVICES.relative_to("/"), dirs_exist_ok=True)
    bases.ensure(place, bases.DEFAULT_NAME)
    return lab[name]


def virt_install(host: Host, name: str, *options: str, memory_mib: int = 256) -> None:
    """Make and start a guest from an image, as its manual has it for Debian."""
    sizes = ("--name", name, "--memory", str(memory_mib), "--virt-type", "kvm" if existing_lab().kvm else "qemu")
    host.run("virt-install", *sizes, *_FIXED, *options)


def seed_files(host: Host, name: str) -> tuple[str, str]:
    """Paths of user data and meta data for the cloud-init of a guest, on its host."""
    paths = {f"/root/{kind}": text.format(name) for kind, text in _SEED.items()}
    write_files(host, paths)
    user_data, meta_data = paths
    return user_data, meta_data


def forget_pools(host: Host) -> None:
    """virt-install makes a pool of each directory that it puts something into."""
    for pool in host.virsh("pool-list", "--all", "--name").split():
        host.virsh("pool-destroy", pool, check=False)
        host.virsh("pool-undefine", pool)
