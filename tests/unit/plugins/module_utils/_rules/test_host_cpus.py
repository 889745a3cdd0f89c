# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.kvmfleet.compute.plugins.module_utils._domain import definition as _definition
from ansible_collections.kvmfleet.compute.plugins.module_utils._rules import host_cpus as _host_cpus

CELLS = [{"id": 0, "cpu_list": "0-3"}, {"id": 2, "cpu_list": "8"}]


def test_what_a_definition_names(definitions: dict[str, str]) -> None:
    def named(name: str) -> dict[str, list[int]]:
        return _host_cpus.needed(_definition.parse(definitions[name]))

    assert named("pinned_numa") == {"cpus": [0, 1], "nodes": [0]}
    assert named("vagrant") == {"cpus": [0, 1], "nodes": []}
    assert named("virt_install") == {"cpus": [], "nodes": []}


@pytest.mark.parametrize(
    ("cells", "cpus", "nodes", "expected"),
    [
        (CELLS, [], [], None),
        (CELLS, [0, 3, 8], [0, 2], None),
        (CELLS, [3, 4, 5], [], "CPU 4-5 (has 0-3,8)"),
        (CELLS, [9], [0, 1], "CPU 9 (has 0-3,8) and NUMA node 1 (has 0,2)"),
        ([], [99], [99], None),
        ([{"id": 0, "cpu_list": None}], [99], [99], None),
    ],
)
def test_what_a_host_lacks(cells: list[dict[str, Any]], cpus: list[int], nodes: list[int], expected: str | None) -> None:
    assert _host_cpus.missing(cells, {"cpus": cpus, "nodes": nodes}) == expected
