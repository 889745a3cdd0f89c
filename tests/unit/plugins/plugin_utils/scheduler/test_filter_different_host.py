# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.filters.different_host import DifferentHostFilter
from ansible_collections.kvmfleet.compute.tests.unit.plugins.plugin_utils.scheduler.fleet import host, rejection, request


@pytest.mark.parametrize(
    ("hint", "instances", "passes"),
    [
        (None, ["a"], True),
        ([], ["a"], True),
        (["a"], ["a", "b"], False),
        ("a", ["a"], False),
        (["c", "b"], ["a", "b"], False),
        (["c"], ["a"], True),
        ("a", None, True),
    ],
)
def test_different_host(hint, instances, passes):
    assert (rejection(DifferentHostFilter, host(instances=instances), request(scheduler_hints={"different_host": hint})) is None) is passes
