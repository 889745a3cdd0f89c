# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Check mode reports what would change, and changes nothing."""

from __future__ import annotations

import pytest
from support.fleet import Fleet, Run
from support.guest import Guests
from support.lab import Lab


@pytest.mark.invariant(13)
def test_check_mode(lab: Lab, fleet: Fleet, guests: Guests) -> None:
    """Resize with its diff, in place and to another host; then, once it was really done, confirm and revert."""
    guest = guests.create("web", "kvm1", start=False)

    def checked(playbook: str, **extra: str | bool) -> Run:
        before = lab.snapshot()
        run = fleet.play(playbook, "--check", "--diff", instance="web", **extra).ok()
        assert run.changed > 0
        assert lab.snapshot() == before
        return run

    for in_place, destination in ((True, "kvm1"), (False, "kvm2")):
        (diff,) = checked("resize", flavor="large", resize_allow_resize_to_same_host=in_place).diffs
        assert diff["before"] == {"host": "kvm1", "flavor": None, "vcpus": 1, "ram_mib": 256, "disk_gib": 1}
        assert diff["after"] == {"host": destination, "flavor": "large", "vcpus": 2, "ram_mib": 512, "disk_gib": 3}

    fleet.resize("web", "large").ok()
    checked("confirm")
    checked("revert")
    fleet.play("revert", instance="web").ok()
    assert guest.hosts == ["kvm1"]
