# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab that all this stands on; `script/lab selftest` tests it in full."""

from __future__ import annotations

from support.guest import Guests
from support.lab import Lab


def test_the_hosts_are_hosts_of_their_own(lab: Lab, guests: Guests) -> None:
    """Each has its identity, name, address and guests."""
    guests.create("web", "kvm1", start=False)
    hosts = lab.hosts.values()
    assert [host.run("hostname") for host in hosts] == list(lab.hosts)
    assert len({host.run("cat", "/etc/machine-id") for host in hosts}) == len(lab.hosts)
    assert [host.domains for host in hosts] == [["web"], [], [], []]
    assert lab.call("status").returncode == 0
