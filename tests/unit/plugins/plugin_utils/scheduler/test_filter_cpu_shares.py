# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.filters.cpu_shares import CpuSharesFilter
from ansible_collections.kvmfleet.compute.tests.unit.plugins.plugin_utils.scheduler.fleet import host, rejection, request


@pytest.mark.parametrize(
    ("shares", "version", "passes"),
    [
        (None, 2, True),
        (10000, 2, True),
        (10001, 2, False),
        (1, 2, True),
        (0, 2, False),
        (10240, 1, True),
        (1, 1, False),
        (262145, 1, False),
        (10240, None, True),
    ],
)
def test_shares(shares, version, passes):
    assert (rejection(CpuSharesFilter, host(cgroup_version=version), request(requirements={"cpu_shares": shares})) is None) is passes
