# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.filters.num_instances import NumInstancesFilter
from ansible_collections.kvmfleet.compute.tests.unit.plugins.plugin_utils.scheduler.fleet import host, rejection


@pytest.mark.parametrize(
    ("changes", "limit", "passes"),
    [
        ({}, 1, True),
        ({"num_instances": 49}, None, True),
        ({"num_instances": 50}, None, False),
        ({"num_instances": "3"}, 4, True),
        ({"instances": ["a", "b"]}, 2, False),
        ({"instances": ["a", "b"], "num_instances": 1}, 2, True),
    ],
)
def test_num_instances(changes, limit, passes):
    refused = rejection(NumInstancesFilter, host(**changes), max_instances_per_host=limit)
    assert (refused is None) is passes


def test_reason():
    refused = rejection(NumInstancesFilter, host(num_instances=50))
    assert tuple(refused.values()) == ("NumInstancesFilter", "num_instances", "50 guests are here, fewer than 50 are allowed", "fewer than 50", 50)
