# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.filters.simple_cidr_affinity import SimpleCIDRAffinityFilter
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.validation import ValidationError
from ansible_collections.kvmfleet.compute.tests.unit.plugins.plugin_utils.scheduler.fleet import host, rejection, request


@pytest.mark.parametrize(
    ("hints", "address", "passes"),
    [
        ({}, None, True),
        ({"cidr": "/8"}, "10.0.0.1", True),
        ({"build_near_host_ip": "10.0.0.9"}, "10.0.0.1", True),
        ({"build_near_host_ip": "10.0.0.9"}, "10.0.1.1", False),
        ({"build_near_host_ip": ["10.0.0.9"], "cidr": "/16"}, "10.0.1.1", True),
        ({"build_near_host_ip": "10.0.0.9"}, None, False),
        ({"build_near_host_ip": "fd00::1", "cidr": "/64"}, "fd00::2", True),
        ({"build_near_host_ip": "10.0.0.9"}, "fd00::2", False),
    ],
)
def test_cidr(hints, address, passes):
    assert (rejection(SimpleCIDRAffinityFilter, host(host_ip=address), request(scheduler_hints=hints)) is None) is passes


@pytest.mark.parametrize(("hints", "address"), [({"build_near_host_ip": "here"}, "10.0.0.1"), ({"build_near_host_ip": "10.0.0.1"}, "there")])
def test_no_address(hints, address):
    with pytest.raises(ValidationError):
        rejection(SimpleCIDRAffinityFilter, host(host_ip=address), request(scheduler_hints=hints))
