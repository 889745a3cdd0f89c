# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.filters.aggregate_num_instances import AggregateNumInstancesFilter
from ansible_collections.kvmfleet.compute.tests.unit.plugins.plugin_utils.scheduler.fleet import aggregate, host, rejection


@pytest.mark.parametrize(
    ("metadata", "option", "passes"),
    [
        ([], 10, True),
        ([], 9, False),
        ([{"max_instances_per_host": "10"}], 1, True),
        ([{"max_instances_per_host": "10"}, {"max_instances_per_host": "9"}], 100, False),
        ([{"other": "1"}], 10, True),
    ],
)
def test_the_lowest_limit_of_the_aggregates(metadata, option, passes):
    state = host(num_instances=9, aggregates=[aggregate(**item) for item in metadata])
    assert (rejection(AggregateNumInstancesFilter, state, max_instances_per_host=option) is None) is passes
