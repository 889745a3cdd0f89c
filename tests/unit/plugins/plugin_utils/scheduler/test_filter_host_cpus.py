# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.filters.host_cpus import HostCpusFilter
from ansible_collections.kvmfleet.compute.tests.unit.plugins.plugin_utils.scheduler.fleet import host, rejection, request

CELL = {"cpus": 4, "memory_mb": 8192}


@pytest.mark.parametrize(
    ("need", "cells", "passes"),
    [
        pytest.param(None, [], True, id="nothing known of the guest"),
        pytest.param({"cpus": [], "nodes": []}, [{**CELL, "cpu_list": ""}], True, id="bound to nothing"),
        pytest.param({"cpus": [3]}, [{**CELL, "cpu_list": "0-3"}], True, id="there"),
        pytest.param({"cpus": [4]}, [{**CELL, "cpu_list": "0-3"}], False, id="no such CPU"),
        pytest.param({"nodes": [1]}, [{**CELL, "cpu_list": "0-3"}], False, id="no such node"),
        pytest.param({"nodes": [1]}, [{**CELL, "id": 1, "cpu_list": "0-3"}], True, id="a node with a number of its own"),
        pytest.param({"cpus": [99], "nodes": [9]}, [CELL], True, id="a host that does not tell"),
    ],
)
def test_bound(need, cells, passes):
    assert (rejection(HostCpusFilter, host(numa_cells=cells), request(requirements={"host_cpus": need})) is None) is passes


def test_reason():
    refused = rejection(HostCpusFilter, host(numa_cells=[{**CELL, "cpu_list": "0-3"}]), request(requirements={"host_cpus": {"cpus": [3, 4]}}))
    assert (refused["code"], refused["reason"]) == ("host_cpus", "the definition binds the guest to CPU 4 (has 0-3)")
