# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.filters.ram import RamFilter
from ansible_collections.kvmfleet.compute.tests.unit.plugins.plugin_utils.scheduler.fleet import aggregate, flavor, host, rejection, request


@pytest.mark.parametrize(
    ("ram", "changes", "scheduler", "passes"),
    [
        pytest.param(8192, {}, {}, True, id="the whole host"),
        pytest.param(8193, {}, {}, False, id="no guest overcommits against itself"),
        pytest.param(6144, {"memory_mb_used": 6144}, {}, True, id="exactly 1.5 x"),
        pytest.param(6145, {"memory_mb_used": 6144}, {}, False, id="one MiB beyond 1.5 x"),
        pytest.param(1, {"memory_mb": 3, "memory_mb_used": 3.5}, {}, True, id="half a MiB counts"),
        pytest.param(1, {"memory_mb": 3, "memory_mb_used": 4}, {}, False, id="half a MiB is not enough"),
        pytest.param(6144, {"memory_mb_used": 6144}, {"ram_allocation_ratio": 1.0}, False, id="fleet ratio"),
        pytest.param(6144, {"memory_mb_used": 6144, "ram_allocation_ratio": 1.5}, {"ram_allocation_ratio": 1.0}, True, id="host beats fleet"),
        pytest.param(6144, {"memory_mb_used": 6144, "aggregates": [aggregate(ram_allocation_ratio="1.0")]}, {}, False, id="aggregate beats fleet"),
        pytest.param(
            6144,
            {"memory_mb_used": 6144, "ram_allocation_ratio": 1.5, "aggregates": [aggregate(ram_allocation_ratio="1.0")]},
            {},
            True,
            id="host beats aggregate",
        ),
        pytest.param(
            8192,
            {"memory_mb_used": 8192, "aggregates": [aggregate(ram_allocation_ratio="10.0"), aggregate(ram_allocation_ratio="1.9")]},
            {},
            False,
            id="the lowest number of several aggregates, not the lowest text",
        ),
        pytest.param(1, {"memory_mb_used": 20000}, {}, False, id="overcommitted already"),
    ],
)
def test_ram(ram, changes, scheduler, passes):
    assert (rejection(RamFilter, host(**changes), request(flavor=flavor(ram=ram)), **scheduler) is None) is passes


def test_reason_carries_the_numbers():
    refused = rejection(RamFilter, host(memory_mb_used=6144), request(flavor=flavor(ram=8192)))
    assert tuple(refused.values()) == ("RamFilter", "ram", "needs 8192 MB, 6144 MB left of 12288 MB (8192 MB x 1.5), 6144 MB used", 8192, 6144)


def test_reason_of_a_guest_larger_than_the_host():
    refused = rejection(RamFilter, host(), request(flavor=flavor(ram=9000)))
    assert refused["reason"] == "needs 9000 MB, the whole host has 8192 MB (no guest overcommits against itself)"
    assert refused["have"] == 8192


def test_a_host_that_is_down_is_not_judged_without_facts():
    assert rejection(RamFilter, {"host": "kvm1", "up": False}) is None


def test_flavor_in_force_is_given_back_to_the_current_host_only():
    states = host("kvm1", memory_mb_used=12288), host("kvm2", memory_mb_used=12288)
    asked = request("kvm1", flavor=flavor(ram=4096))
    asked["instance"]["flavor"] = flavor(ram=4096)
    assert rejection(RamFilter, states[0], asked, others=states[1:]) is None
    assert rejection(RamFilter, states[1], asked, others=states[:1])["have"] == 0
    assert rejection(RamFilter, states[0], {**asked, "allow_resize_to_same_host": False})["have"] == 0
    assert rejection(RamFilter, states[0], request("kvm1", flavor=flavor(ram=4096)))["have"] == 0
