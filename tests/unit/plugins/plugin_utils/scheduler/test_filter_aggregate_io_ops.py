# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.filters.aggregate_io_ops import AggregateIoOpsFilter
from ansible_collections.kvmfleet.compute.tests.unit.plugins.plugin_utils.scheduler.fleet import aggregate, host, rejection


@pytest.mark.parametrize(
    ("metadata", "option", "passes"),
    [
        ([], 8, True),
        ([], 7, False),
        ([{"max_io_ops_per_host": "8"}], 1, True),
        ([{"max_io_ops_per_host": "8"}, {"max_io_ops_per_host": "7"}], 100, False),
        ([{"other": "1"}], 8, True),
    ],
)
def test_the_lowest_limit_of_the_aggregates(metadata, option, passes):
    state = host(num_io_ops=7, aggregates=[aggregate(**item) for item in metadata])
    assert (rejection(AggregateIoOpsFilter, state, max_io_ops_per_host=option) is None) is passes
