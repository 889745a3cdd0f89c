# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.filters.aggregate_disk import AggregateDiskFilter
from ansible_collections.kvmfleet.compute.tests.unit.plugins.plugin_utils.scheduler.fleet import aggregate, flavor, host, rejection, request


@pytest.mark.parametrize(
    ("changes", "passes"),
    [
        ({"aggregates": [aggregate(disk_allocation_ratio="1.5")]}, True),
        ({"aggregates": [aggregate(disk_allocation_ratio="1.4")]}, False),
        ({"aggregates": [aggregate(disk_allocation_ratio="1.5")], "disk_allocation_ratio": 1.0}, True),
        ({"aggregates": [aggregate(disk_allocation_ratio="10.0"), aggregate(disk_allocation_ratio="1.2")]}, False),
        ({"aggregates": [aggregate(ssd="true")], "disk_allocation_ratio": 1.0}, False),
        ({"disk_allocation_ratio": 1.5}, True),
    ],
)
def test_the_aggregate_beats_the_host(changes, passes):
    refused = rejection(AggregateDiskFilter, host(local_gb_used=100, **changes), request(flavor=flavor(disk=50)))
    assert (refused is None) is passes
    assert passes or refused["filter"] == "AggregateDiskFilter"


def test_a_host_that_is_down_is_not_judged_without_facts():
    assert rejection(AggregateDiskFilter, {"host": "kvm1", "up": False, "aggregates": [aggregate(disk_allocation_ratio="1")]}) is None
