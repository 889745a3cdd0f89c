# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.context import Context
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.registry import weighers_for
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.weigh import normalize, weigh
from ansible_collections.kvmfleet.compute.tests.unit.plugins.plugin_utils.scheduler.fleet import host, request


@pytest.mark.parametrize(
    ("raws", "minval", "maxval", "expected"),
    [
        ([1, 2, 3], None, None, [0, 0.5, 1]),
        ([0, 512, 1024], 0, None, [0, 0.5, 1]),
        ([512, 1024], 0, None, [0.5, 1]),
        ([-4096, 0, 1024], 0, None, [0, 0, 1]),
        ([5, 5], None, None, [0, 0]),
        ([5, 5], 0, None, [1, 1]),
        ([0, 0], 0, None, [0, 0]),
        ([-1, -2], 0, None, [0, 0]),
        ([1, 2, 30], None, 3, [0, 0.5, 1]),
        ([1, 2], 0, 4, [0.25, 0.5]),
    ],
)
def test_normalize(raws, minval, maxval, expected):
    assert normalize(raws, minval, maxval) == expected


def order(states, **scheduler):
    context = Context.build(states, request(), scheduler)
    return weigh(context.hosts, range(len(context.hosts)), weighers_for(context))


def test_heaviest_first_and_ties_as_given():
    states = [host("c", memory_mb_used=4096), host("d"), host("a", memory_mb_used=4096), host("b")]
    assert [item["host"] for item in order(states)] == ["d", "b", "c", "a"]


def test_a_single_host_is_not_weighed():
    assert order([host("a")]) == [{"host": "a", "weight": 0.0, "weights": {}}]


def test_no_weigher_keeps_the_order():
    assert [item["host"] for item in order([host("a", memory_mb_used=4096), host("b")], weighers={})] == ["a", "b"]
