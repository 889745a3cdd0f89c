# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""RamFilter at its exact limit, on facts of real hosts, with the ratio of the fleet, of a host and of an aggregate."""

from __future__ import annotations

import pytest
from support.fleet import Fleet
from support.guest import Guests

pytestmark = pytest.mark.whole_fleet

NEED = 512
RATIOS = {"kvm2": 1.25, "kvm3": 1.0, "kvm4": 2.0}


@pytest.fixture
def own_ratios(fleet: Fleet) -> Fleet:
    """kvm2 has the ratio of the fleet, kvm3 its own, kvm4 that of its aggregate."""
    fleet.vars["kvmfleet_scheduler"] = {"ram_allocation_ratio": RATIOS["kvm2"]}
    fleet.hosts["kvm3"]["kvmfleet_ram_allocation_ratio"] = RATIOS["kvm3"]
    fleet.hosts["kvm4"]["kvmfleet_aggregates"] = [{"name": "dense", "metadata": {"ram_allocation_ratio": str(RATIOS["kvm4"])}}]
    return fleet


def test_the_last_mebibyte_fits(fleet: Fleet, guests: Guests) -> None:
    """At 1.5, what is needed is what there is: the plan and the claim under the destination's lock both take it."""
    guests.create("web", "kvm1", start=False)
    fleet.free_memory("kvm2", NEED)
    assert fleet.resize("web", "large").ok().migration["destination"] == "kvm2"
    fleet.play("confirm", instance="web").ok()


def test_one_mebibyte_short_does_not_fit(fleet: Fleet, guests: Guests) -> None:
    """At 1.5, with the numbers of each host."""
    guests.create("web", "kvm1", start=False)
    for host in RATIOS:
        fleet.free_memory(host, NEED - 1)
    run = fleet.play("plan", instance="web", flavor="large", zone="any", resize_allow_resize_to_same_host=False)
    run.refused()
    for host in RATIOS:
        assert f"{NEED}" in run.verdicts[host]
        assert f"{NEED - 1}" in run.verdicts[host]


def test_the_ratio_is_that_of_the_fleet_the_host_or_the_aggregate(own_ratios: Fleet, guests: Guests) -> None:
    """Each at its exact limit, then one mebibyte beyond."""
    fleet = own_ratios
    guests.create("web", "kvm1", start=False)
    question = {"instance": "web", "flavor": "large", "zone": "any", "resize_allow_resize_to_same_host": False}
    for host, ratio in RATIOS.items():
        fleet.free_memory(host, NEED, ratio)
    verdicts = fleet.play("plan", **question).ok().verdicts
    assert {host: "weight" in verdicts[host] for host in RATIOS} == dict.fromkeys(RATIOS, True)

    for host in RATIOS:
        fleet.hosts[host]["kvmfleet_reserved_host_memory_mb"] += 1
    run = fleet.play("plan", **question)
    run.refused()
    assert {host: "RamFilter" in run.verdicts[host] for host in RATIOS} == dict.fromkeys(RATIOS, True)
