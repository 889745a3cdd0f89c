# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.planning.cpu_topology import PARTS, choose

NUMBERS = st.dictionaries(st.sampled_from(PARTS), st.integers(1, 16))


@pytest.mark.parametrize(
    ("vcpus", "preferred", "most", "expected"),
    [
        (8, {}, {}, (8, 1, 1)),
        (8, {"threads": 2}, {}, (4, 1, 2)),
        (8, {"cores": 4}, {}, (2, 4, 1)),
        (8, {"sockets": 2, "threads": 2}, {}, (2, 2, 2)),
        (8, {"sockets": 2, "cores": 2}, {"threads": 1}, (4, 2, 1)),  # of two wishes that exclude each other one, then many sockets
        (8, {}, {"sockets": 2}, (2, 4, 1)),
        (8, {}, {"sockets": 2, "cores": 2}, (2, 2, 2)),
        (7, {"sockets": 2}, {}, (7, 1, 1)),
        (8, {}, {"sockets": 1, "cores": 2, "threads": 2}, None),
        (7, {}, {"sockets": 2, "cores": 4}, (1, 1, 7)),
    ],
)
def test_as_nova_chooses(vcpus, preferred, most, expected):
    chosen = choose(vcpus, preferred, most)
    assert (None if chosen is None else tuple(chosen[part] for part in PARTS)) == expected


@given(st.integers(1, 256), NUMBERS, NUMBERS)
def test_it_multiplies_to_the_vcpus_within_the_limits(vcpus, preferred, most):
    chosen = choose(vcpus, preferred, most)
    if chosen is not None:
        assert chosen["sockets"] * chosen["cores"] * chosen["threads"] == vcpus
        assert all(chosen[part] <= limit for part, limit in most.items())
    elif len(most) < 3:
        assert any(limit < vcpus for limit in most.values())
