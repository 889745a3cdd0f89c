# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a guest says on its console, which libvirt writes into a file."""

from __future__ import annotations

from .guest import Guest
from .lab import Host

LOG = "/var/log/libvirt/qemu/web-console.log"


def say(guest: Guest, word: str) -> None:
    guest.exec("sh", "-c", f"echo said {word} >/dev/ttyS0")


def said(host: Host, path: str = LOG) -> list[str]:
    """The words on the console, as far as this host has it."""
    return [line.split()[1] for line in host.sh(f"cat {path} 2>/dev/null", check=False).splitlines() if line.startswith("said ")]
