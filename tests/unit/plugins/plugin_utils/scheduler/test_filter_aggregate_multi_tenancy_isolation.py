# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.filters.aggregate_multi_tenancy_isolation import AggregateMultiTenancyIsolation
from ansible_collections.kvmfleet.compute.tests.unit.plugins.plugin_utils.scheduler.fleet import aggregate, host, rejection, request


@pytest.mark.parametrize(
    ("project", "metadata", "passes"),
    [
        ("p1", [], True),
        ("p1", [{"ssd": "true"}], True),
        ("p1", [{"filter_tenant_id": "p1"}], True),
        ("p2", [{"filter_tenant_id": "p1"}], False),
        (None, [{"filter_tenant_id": "p1"}], False),
        ("p2", [{"filter_tenant_id": "p1, p2"}], True),
        ("p2", [{"filter_tenant_id": "p1", "filter_tenant_id2": "p2"}], True),
        ("p2", [{"filter_tenant_id": "p1"}, {"filter_tenant_id": "p2"}], True),
    ],
)
def test_tenants(project, metadata, passes):
    state = host(aggregates=[aggregate(**item) for item in metadata])
    assert (rejection(AggregateMultiTenancyIsolation, state, request(project_id=project)) is None) is passes
