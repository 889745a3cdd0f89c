# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whatever is done twice changes nothing the second time; here for a guest that stays on its host (see test_stopped_guest.py for one that moves)."""

from __future__ import annotations

from support.fleet import Fleet
from support.guest import Guests
from support.lab import Lab


def test_a_second_run_changes_nothing(lab: Lab, fleet: Fleet, guests: Guests) -> None:
    """Resize and confirm; another flavor is refused while the first resize waits."""
    guest = guests.create("web", "kvm1", start=False)

    def twice(playbook: str, becomes: str, **extra: str) -> None:
        assert fleet.play(playbook, instance="web", **extra).ok().changed > 0
        after = lab.snapshot()
        assert fleet.play(playbook, instance="web", **extra).ok().changed == 0
        assert lab.snapshot() == after
        assert (guest.state, guest.defined) == ("shut off", fleet.flavors[becomes])

    twice("resize", "large", flavor="large")
    assert "waits for confirm or revert" in fleet.play("resize", instance="web", flavor="medium").refused()
    twice("confirm", "large")
    assert guest.disk_paths == [guest.disk]
