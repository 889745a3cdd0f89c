# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.filters.disk import DiskFilter
from ansible_collections.kvmfleet.compute.tests.unit.plugins.plugin_utils.scheduler.fleet import aggregate, flavor, host, rejection, request


@pytest.mark.parametrize(
    ("size", "changes", "scheduler", "passes"),
    [
        pytest.param({"disk": 40}, {"local_gb_used": 60}, {}, True, id="exactly"),
        pytest.param({"disk": 41}, {"local_gb_used": 60}, {}, False, id="one GiB beyond"),
        pytest.param({"disk": 30, "ephemeral": 10}, {"local_gb_used": 60}, {}, True, id="ephemeral counts"),
        pytest.param({"disk": 30, "ephemeral": 10, "swap": 1}, {"local_gb_used": 60}, {}, False, id="swap counts in MiB"),
        pytest.param({"disk": 40}, {"local_gb_used": 0, "disk_available_least": 40}, {}, True, id="what sparse images leave, exactly"),
        pytest.param({"disk": 40}, {"local_gb_used": 0, "disk_available_least": 39.5}, {}, False, id="what sparse images leave decides"),
        pytest.param({"disk": 40}, {"local_gb_used": 61, "disk_available_least": 90}, {}, False, id="the promise decides"),
        pytest.param({"disk": 1}, {"disk_available_least": -5}, {}, False, id="overcommitted"),
        pytest.param({"disk": 100}, {"local_gb_used": 100}, {"disk_allocation_ratio": 2.0}, True, id="fleet ratio"),
        pytest.param({"disk": 100}, {"local_gb_used": 100, "aggregates": [aggregate(disk_allocation_ratio=2)]}, {}, True, id="aggregate ratio"),
        pytest.param({"disk": 1.5}, {"local_gb_used": 98.5}, {}, True, id="a disk that is no whole number of GiB"),
        pytest.param({"disk": 0}, {"local_gb_used": 100}, {}, True, id="no disk"),
    ],
)
def test_disk(size, changes, scheduler, passes):
    assert (rejection(DiskFilter, host(**changes), request(flavor=flavor(**size)), **scheduler) is None) is passes


def test_reason_is_in_mb():
    refused = rejection(DiskFilter, host(local_gb_used=95), request())
    assert tuple(refused.values()) == ("DiskFilter", "disk", "needs 10240 MB, 5120 MB left of 102400 MB (102400 MB x 1), 97280 MB used", 10240, 5120)
