# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The snapshots of the guest web, as libvirt lists them."""

from __future__ import annotations

from .guest import Guest
from .lab import Host


def snapshots(host: Host) -> list[tuple[str, str]]:
    """Each snapshot with its parent."""
    return [(line.split()[0], line.split()[-1]) for line in host.virsh("snapshot-list", "web", "--parent").splitlines() if line.strip()]


def go_back_to(guest: Guest, snapshot: str) -> None:
    """Take the guest back to an internal snapshot, and start it if it was off then."""
    guest.host.virsh("snapshot-revert", guest.name, snapshot, "--force")
    if guest.state != "running":
        guest.host.virsh("start", guest.name)
