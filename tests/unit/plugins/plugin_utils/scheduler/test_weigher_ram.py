# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.context import Context
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.registry import weighers_for
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.weigh import weigh
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.validation import ValidationError
from ansible_collections.kvmfleet.compute.tests.unit.plugins.plugin_utils.scheduler.fleet import aggregate, host, request


def ranked(states, **scheduler):
    context = Context.build(states, request(), scheduler)
    return {item["host"]: item for item in weigh(context.hosts, range(len(context.hosts)), weighers_for(context))}


def test_free_memory_without_the_ratio():
    weighed = ranked([host("a", memory_mb_used=2048), host("b", memory_mb_used=4096, ram_allocation_ratio=9)])
    assert weighed["a"] == {"host": "a", "weight": 1.0, "weights": {"RAMWeigher": {"raw": 6144, "normalized": 1.0, "multiplier": 1.0}}}
    assert weighed["b"]["weights"]["RAMWeigher"] == {"raw": 4096, "normalized": pytest.approx(2 / 3), "multiplier": 1.0}


def test_negative_memory_counts_as_none():
    weighed = ranked([host("a", memory_mb_used=9000), host("b", memory_mb_used=8192), host("c")])
    assert [(item["host"], item["weight"]) for item in weighed.values()] == [("c", 1.0), ("a", 0.0), ("b", 0.0)]
    assert weighed["a"]["weights"]["RAMWeigher"]["raw"] == -808


def test_a_negative_multiplier_stacks():
    assert list(ranked([host("a"), host("b", memory_mb_used=4096)], weighers={"RAMWeigher": -1.0})) == ["b", "a"]


def test_the_lowest_multiplier_of_the_aggregates_wins():
    groups = [aggregate(ram_weight_multiplier="2.5"), aggregate(ram_weight_multiplier="10"), aggregate(other="x")]
    weighed = ranked([host("a", aggregates=groups), host("b")])
    assert weighed["a"]["weight"] == 2.5
    assert weighed["b"]["weight"] == 1.0


def test_a_malformed_multiplier_names_its_place():
    with pytest.raises(ValidationError, match=r"hosts\[1\].aggregates\[0\].metadata.ram_weight_multiplier: expected a number, got 'high'"):
        ranked([host("a"), host("b", aggregates=[aggregate(ram_weight_multiplier="high")])])
