# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.filters.retry import RetryFilter
from ansible_collections.kvmfleet.compute.tests.unit.plugins.plugin_utils.scheduler.fleet import host, rejection, request


@pytest.mark.parametrize(
    ("retry", "passes"),
    [
        (None, True),
        ({}, True),
        ({"hosts": []}, True),
        ({"hosts": ["kvm2"], "num_attempts": 1}, True),
        ({"hosts": ["kvm2", "kvm1"]}, False),
        ({"hosts": [["kvm1", "kvm1"]]}, False),
        ({"hosts": [["kvm2", "kvm1"]]}, True),
    ],
)
def test_retry(retry, passes):
    refused = rejection(RetryFilter, host("kvm1"), request(retry=retry))
    assert (refused is None) is passes
    assert passes or refused["code"] == "already_tried"
