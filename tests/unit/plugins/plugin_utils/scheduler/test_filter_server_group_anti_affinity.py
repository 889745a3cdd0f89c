# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.filters.server_group_anti_affinity import ServerGroupAntiAffinityFilter
from ansible_collections.kvmfleet.compute.tests.unit.plugins.plugin_utils.scheduler.fleet import host, rejection, request


@pytest.mark.parametrize(
    ("group", "instances", "passes"),
    [
        ({"policy": "anti-affinity", "members": ["me", "a"]}, ["b"], True),
        ({"policy": "anti-affinity", "members": ["me", "a"]}, ["a"], False),
        ({"policy": "anti-affinity", "members": ["me", "a"]}, ["a", "me"], True),
        ({"policy": "anti-affinity", "members": ["me", "a", "b"], "max_server_per_host": 2}, ["a"], True),
        ({"policy": "anti-affinity", "members": ["me", "a", "b"], "max_server_per_host": 2}, ["a", "b"], False),
        ({"policy": "affinity", "members": ["me", "a"]}, ["a"], True),
        ({"policy": "soft-anti-affinity", "members": ["me", "a"]}, ["a"], True),
        (None, ["a"], True),
    ],
)
def test_anti_affinity(group, instances, passes):
    asked = request(server_group=group)
    asked["instance"]["uuid"] = "me"
    assert (rejection(ServerGroupAntiAffinityFilter, host(instances=instances), asked) is None) is passes
