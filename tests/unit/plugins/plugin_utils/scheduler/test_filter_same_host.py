# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.filters.same_host import SameHostFilter
from ansible_collections.kvmfleet.compute.tests.unit.plugins.plugin_utils.scheduler.fleet import host, rejection, request


@pytest.mark.parametrize(
    ("hint", "instances", "passes"),
    [(None, ["a"], True), ([], ["a"], True), (["a"], ["a", "b"], True), ("a", ["a"], True), (["c"], ["a"], False), ("a", None, False)],
)
def test_same_host(hint, instances, passes):
    assert (rejection(SameHostFilter, host(instances=instances), request(scheduler_hints={"same_host": hint})) is None) is passes
