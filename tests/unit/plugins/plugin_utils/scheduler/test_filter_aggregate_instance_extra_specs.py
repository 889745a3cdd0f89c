# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.filters.aggregate_instance_extra_specs import AggregateInstanceExtraSpecsFilter
from ansible_collections.kvmfleet.compute.tests.unit.plugins.plugin_utils.scheduler.fleet import aggregate, flavor, host, rejection, request


@pytest.mark.parametrize(
    ("specs", "metadata", "passes"),
    [
        ({}, [], True),
        ({"ssd": "true"}, [], False),
        ({"ssd": "true"}, [{"ssd": "true"}], True),
        ({"ssd": "true"}, [{"ssd": "false"}], False),
        ({"ssd": "true"}, [{"ssd": "false, true"}], True),
        ({"ssd": "true"}, [{"ssd": "false"}, {"ssd": "true"}], True),
        ({"aggregate_instance_extra_specs:ssd": "true"}, [{"ssd": "true"}], True),
        ({"aggregate_instance_extra_specs:ssd": "true"}, [{"hdd": "true"}], False),
        ({"capabilities:ssd": "true", "hw:numa_nodes": "2"}, [], True),
        ({"cores": ">= 8"}, [{"cores": "16"}], True),
        ({"cores": ">= 8"}, [{"cores": "4"}], False),
        ({"rack": "<or> a <or> b"}, [{"rack": "b"}], True),
        ({"ssd": "true", "rack": "a"}, [{"ssd": "true"}], False),
    ],
)
def test_extra_specs(specs, metadata, passes):
    state = host(aggregates=[aggregate(**item) for item in metadata])
    assert (rejection(AggregateInstanceExtraSpecsFilter, state, request(flavor=flavor(extra_specs=specs))) is None) is passes


def test_reason_names_every_spec():
    specs = {"ssd": "true", "rack": "a"}
    refused = rejection(AggregateInstanceExtraSpecsFilter, host(aggregates=[aggregate(rack="b,c")]), request(flavor=flavor(extra_specs=specs)))
    assert refused["reason"] == "its aggregates give ssd no value, which must be 'true'; its aggregates give rack as 'b, c', which must be 'a'"
