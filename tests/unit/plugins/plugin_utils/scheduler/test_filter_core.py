# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.filters.core import CoreFilter
from ansible_collections.kvmfleet.compute.tests.unit.plugins.plugin_utils.scheduler.fleet import aggregate, flavor, host, rejection, request


@pytest.mark.parametrize(
    ("vcpus", "changes", "scheduler", "passes"),
    [
        (8, {}, {}, True),
        (9, {}, {}, False),
        (8, {"vcpus_used": 120}, {}, True),
        (8, {"vcpus_used": 121}, {}, False),
        (8, {"vcpus_used": 8}, {"cpu_allocation_ratio": "2"}, True),
        (8, {"vcpus_used": 9}, {"cpu_allocation_ratio": "2"}, False),
        (8, {"vcpus_used": 9, "cpu_allocation_ratio": 3}, {"cpu_allocation_ratio": 2}, True),
        (1, {"vcpus_used": 8, "aggregates": [aggregate(cpu_allocation_ratio=1)]}, {}, False),
    ],
)
def test_core(vcpus, changes, scheduler, passes):
    assert (rejection(CoreFilter, host(**changes), request(flavor=flavor(vcpus=vcpus)), **scheduler) is None) is passes


def test_reason():
    refused = rejection(CoreFilter, host(vcpus_used=127), request(flavor=flavor(vcpus=2)))
    assert tuple(refused.values()) == ("CoreFilter", "vcpus", "needs 2 vCPUs, 1 vCPUs left of 128 vCPUs (8 vCPUs x 16), 127 vCPUs used", 2, 1)
