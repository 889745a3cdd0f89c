# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Placement from facts of earlier: they may be wrong, but only the claim at the destination decides."""

from __future__ import annotations

import pytest
from support.fleet import Fleet, Run
from support.guest import Guests
from support.lab import Lab

pytestmark = pytest.mark.whole_fleet

CACHE = "[defaults]\nfact_caching = jsonfile\nfact_caching_connection = {}\n"


class Remembering:
    """A fleet whose facts are kept from run to run."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet
        self._configuration = fleet.directory / "ansible.cfg"
        self._configuration.write_text(CACHE.format(fleet.directory / "facts"))

    def play(self, playbook: str, **extra: object) -> Run:
        """With what is known already."""
        return self.fleet.play(playbook, **{"instance": "web", "facts_max_age": 600, **extra})

    def play_elsewhere(self, playbook: str, **extra: object) -> Run:
        """As somebody else would, whose controller does not know these facts and does not tell."""
        kept = self._configuration.read_text()
        self._configuration.write_text("")
        try:
            return self.fleet.play(playbook, instance="web", **extra)
        finally:
            self._configuration.write_text(kept)


@pytest.fixture
def remembering(fleet: Fleet) -> Remembering:
    """All hosts in one zone, kvm2 before kvm3 whatever bases they hold; nothing is known yet."""
    fleet.vars["kvmfleet_scheduler"] = {"weighers": {"RAMWeigher": 1.0}}
    for name in fleet.hosts:
        fleet.hosts[name]["kvmfleet_zone"] = "north"
    for name, free in (("kvm2", 900), ("kvm3", 700), ("kvm4", 100)):
        fleet.free_memory(name, free)
    return Remembering(fleet)


def asked(run: Run) -> set[str]:
    """Hosts that a play of their own asked for their facts."""
    return {host for host, numbers in run.recap.items() if host != "localhost" and numbers["ok"]}


def test_old_facts_cost_an_attempt_and_nothing_else(lab: Lab, remembering: Remembering, guests: Guests) -> None:
    """The host that has filled up since is chosen, refuses with its numbers, and the next one takes the guest."""
    guest = guests.create("web", "kvm1", start=False)
    first = remembering.play("plan").ok()
    assert asked(first) == set(lab.hosts)
    assert "selected" in first.verdicts["kvm2"]

    before = lab["kvm2"].records("migrations")
    guests.create("crowd", "kvm2", start=False)
    lab["kvm2"].virsh("setmaxmem", "crowd", "800M", "--config")
    moved = remembering.play("migrate").ok()
    assert asked(moved) == set()
    (chosen,) = [line for line in moved.said.splitlines() if "selected" in line]
    assert "kvm2" in chosen
    assert "256 MiB of memory needed, 100" in moved.said
    assert (moved.migration["destination"], guest.hosts) == ("kvm3", ["kvm3"])
    assert (lab["kvm2"].records("claims"), lab["kvm2"].records("migrations")) == ([], before)

    remembering.play("confirm").ok()
    assert "RamFilter" in remembering.play("plan", facts_max_age=0).ok().verdicts["kvm2"]


@pytest.mark.slow
def test_a_host_that_was_drained_since_is_not_asked(remembering: Remembering, guests: Guests) -> None:
    """The claim knows nothing of the inventory, so the inventory of now is compared with that of then."""
    guest = guests.create("web", "kvm1", start=False)
    remembering.play("plan").ok()
    remembering.fleet.hosts["kvm2"]["kvmfleet_maintenance"] = "a disk fails"
    moved = remembering.play("migrate").ok()
    assert "kvm2: the inventory gives it another kvmfleet_maintenance than its facts" in moved.said
    assert guest.hosts == ["kvm3"]
    remembering.play("confirm").ok()


@pytest.mark.slow
def test_where_the_guest_is_is_never_guessed(lab: Lab, remembering: Remembering, guests: Guests) -> None:
    """Its host is read again; if it has left, the run says so, and one that asks all hosts finds it."""
    guests.create("web", "kvm1", start=False)
    remembering.play("plan").ok()
    remembering.play_elsewhere("migrate").ok()
    remembering.play_elsewhere("confirm").ok()

    error = remembering.play("migrate").refused()
    assert "No host defines the instance 'web'" in error
    assert "with facts_max_age=0 every host is asked" in error
    again = remembering.play("plan", facts_max_age=0.001).ok()
    assert asked(again) == set(lab.hosts)
