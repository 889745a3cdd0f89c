# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.filters.aggregate_type_affinity import AggregateTypeAffinityFilter
from ansible_collections.kvmfleet.compute.tests.unit.plugins.plugin_utils.scheduler.fleet import aggregate, flavor, host, rejection, request


@pytest.mark.parametrize(
    ("name", "metadata", "passes"),
    [
        ("large", [], True),
        ("large", [{"instance_type": "large"}], True),
        ("large", [{"instance_type": "small"}], False),
        (None, [{"instance_type": "small"}], False),
        ("large", [{"instance_type": "small, large"}], True),
        ("large", [{"instance_type": "small"}, {"instance_type": "large"}], True),
        ("large", [{"other": "small"}], True),
    ],
)
def test_flavors(name, metadata, passes):
    state = host(aggregates=[aggregate(**item) for item in metadata])
    assert (rejection(AggregateTypeAffinityFilter, state, request(flavor=flavor(name=name))) is None) is passes
