# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.filters.server_group_affinity import ServerGroupAffinityFilter
from ansible_collections.kvmfleet.compute.tests.unit.plugins.plugin_utils.scheduler.fleet import host, rejection, request


@pytest.mark.parametrize(
    ("group", "instances", "passes"),
    [
        ({"policy": "affinity", "members": ["me", "a"]}, ["a"], True),
        ({"policy": "affinity", "members": ["me", "a"]}, ["b"], False),
        ({"policy": "affinity", "members": ["me", "nowhere"]}, ["b"], True),
        ({"policy": "affinity", "members": ["me"]}, ["b"], True),
        ({"policy": "anti-affinity", "members": ["me", "a"]}, ["b"], True),
        (None, ["b"], True),
    ],
)
def test_affinity(group, instances, passes):
    asked = request(server_group=group)
    asked["instance"]["uuid"] = "me"
    others = (host("kvm2", instances=["me", "a"]),)
    assert (rejection(ServerGroupAffinityFilter, host(instances=instances), asked, others=others) is None) is passes
