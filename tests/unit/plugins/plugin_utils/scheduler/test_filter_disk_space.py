# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.filters.disk_space import DiskSpaceFilter
from ansible_collections.kvmfleet.compute.tests.unit.plugins.plugin_utils.scheduler.fleet import host, rejection, request

MIB = 1024**2
NEEDED = {"overlay_bytes": 100 * MIB, "growth_bytes": 10 * MIB, "bases": [{"sha256": "aa", "size_bytes": 50 * MIB}, {"sha256": "bb", "size_bytes": 5 * MIB}]}


def claim(role="destination", instance="other", size=40):
    return {"role": role, "instance_uuid": instance, "bytes": size * MIB}


@pytest.mark.parametrize(
    ("changes", "passes"),
    [
        pytest.param({"disk_free_mb": 165}, True, id="all of it fits"),
        pytest.param({"disk_free_mb": 164}, False, id="a MiB short"),
        pytest.param({"disk_free_mb": 115, "bases": ["aa", "cc"]}, True, id="a base is there"),
        pytest.param({"disk_free_mb": 114, "bases": ["aa", "cc"]}, False, id="a base is there, a MiB short"),
        pytest.param({"disk_free_mb": 110, "bases": ["aa", "bb"]}, True, id="both bases are there"),
        pytest.param({"disk_free_mb": 204, "claims": [claim()]}, False, id="promised to a claim"),
        pytest.param({"disk_free_mb": 205, "claims": [claim()]}, True, id="beside a claim"),
        pytest.param({"disk_free_mb": 165, "claims": [claim("source"), claim(instance="me")]}, True, id="claims that bring nothing"),
        pytest.param({}, True, id="a host that does not tell"),
    ],
)
def test_bytes(changes, passes):
    asked = request(requirements=NEEDED)
    asked["instance"]["uuid"] = "me"
    assert (rejection(DiskSpaceFilter, host(**changes), asked) is None) is passes


@pytest.mark.parametrize(("free", "passes"), [(10, True), (9, False)])
def test_only_the_growth_counts_where_the_guest_is(free, passes):
    assert (rejection(DiskSpaceFilter, host("kvm1", disk_free_mb=free), request("kvm1", requirements=NEEDED)) is None) is passes


def test_reason():
    refused = rejection(DiskSpaceFilter, host(disk_free_mb=100, claims=[claim()]), request(requirements={"overlay_bytes": 100 * MIB + 1}))
    assert tuple(refused.values())[1:] == ("disk_space", "101 MB have to fit into its file system, 60 MB are free (40 MB are promised to claims)", 101, 60)
