# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.filters.metrics import MetricsFilter
from ansible_collections.kvmfleet.compute.tests.unit.plugins.plugin_utils.scheduler.fleet import host, rejection


@pytest.mark.parametrize(
    ("setting", "metrics", "passes"),
    [({}, {}, True), ({"load": 1}, {"load": 0.5}, True), ({"load": 1}, {}, False), ({"load": 1}, None, False), ({"load": -1, "iowait": 1}, {"load": 1}, False)],
)
def test_metrics(setting, metrics, passes):
    assert (rejection(MetricsFilter, host(metrics=metrics), metrics_weight_setting=setting) is None) is passes
