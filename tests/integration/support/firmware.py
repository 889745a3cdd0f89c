# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The variables of a guest's UEFI firmware, as the guest writes them and as its hosts keep them."""

from __future__ import annotations

import re

from .guest import Guest
from .lab import Host

PLACE = "/sys/firmware/efi/efivars"
_VENDOR = "6b1d3b0e-5a0c-4c1e-9a4e-5f2f0c7d1a11"
_ATTRIBUTES = r"\007\000\000\000"  # kept without power, readable for the boot loader and for the system


def add_variable(guest: Guest, name: str) -> None:
    """Write a new one, at once, as the firmware wants it. The kernel protects those that are there, since removing some has ruined machines."""
    guest.exec("sh", "-c", f"printf '{_ATTRIBUTES}value of {name}' >{PLACE}/{name}-{_VENDOR}")


def variables(guest: Guest) -> list[str]:
    """The values of those that `add_variable` wrote, in the order of their names."""
    return guest.wait().exec("sh", "-c", f"for file in {PLACE}/*-{_VENDOR}; do tail -c +5 $file && echo; done").splitlines()


def place_of(guest: Guest) -> str:
    """Where its variables lie."""
    return re.findall(r"<nvram[^>]*>([^<]+)</nvram>", guest.host.virsh("dumpxml", guest.name))[0]


def files_of(host: Host) -> list[str]:
    """The names of all files with variables that a host has, those of sealed and unfinished copies too."""
    return sorted(path.rpartition("/")[2] for path in host.files("/var/lib/libvirt/qemu/nvram"))
