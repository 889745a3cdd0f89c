# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Random fleets and requests: the same hosts in the same order, the same weights, and the same hosts refused by each filter as Nova's."""

from __future__ import annotations

import pytest

from bench.placement.fleet import PROFILES, fleet, request
from tests.differential.compare import by_nova, by_us, differences

EVERYTHING = (
    (*PROFILES["13+6"][0], "AggregateRamFilter", "AggregateCoreFilter", "AggregateDiskFilter", "AggregateNumInstancesFilter", "AggregateIoOpsFilter"),
    {
        "RAMWeigher": 1.0,
        "CPUWeigher": -0.5,
        "DiskWeigher": 2.0,
        "IoOpsWeigher": -1.0,
        "NumInstancesWeigher": -3.0,
        "HypervisorVersionWeigher": 0.25,
        "BuildFailureWeigher": 1000.0,
        "ServerGroupSoftAffinityWeigher": 1.5,
        "ServerGroupSoftAntiAffinityWeigher": 2.5,
    },
)


@pytest.mark.parametrize("profile", [*PROFILES, "everything"])
@pytest.mark.parametrize("roomy", [False, True], ids=["crowded", "roomy"])
def test_same_answers(profile: str, roomy: bool, fleets: int) -> None:
    filters, weighers = PROFILES.get(profile, EVERYTHING)
    placed = 0
    for seed in range(fleets):
        hosts = fleet(1 + seed % 40, seed, roomy=roomy)
        asked = request(hosts, seed, roomy=roomy)
        ours, nova = by_us(hosts, asked, filters, weighers), by_nova(hosts, asked, filters, weighers)
        assert differences(ours, nova) == [], f"fleet {seed}"
        placed += len(ours.order) > 1
    assert placed > fleets / (10 if roomy else 100), "too few of the fleets had hosts to choose from"
