# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.filters.numa_topology import NUMATopologyFilter
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.validation import ValidationError
from ansible_collections.kvmfleet.compute.tests.unit.plugins.plugin_utils.scheduler.fleet import flavor, host, rejection, request


def cell(cpus=4, memory_mb=4096, **more):
    return {"cpus": cpus, "memory_mb": memory_mb, **more}


def judged(specs, cells, **changes):
    prefixed = {f"hw:{key}": value for key, value in specs.items()}
    return rejection(NUMATopologyFilter, host(numa_cells=cells), request(flavor=flavor(extra_specs=prefixed, **{"vcpus": 4, "ram": 4096, **changes})))


@pytest.mark.parametrize(
    ("specs", "cells", "passes"),
    [
        pytest.param({}, None, True, id="nothing asked"),
        pytest.param({"cpu_policy": "shared", "mem_page_size": "small"}, None, True, id="nothing that needs a cell"),
        pytest.param({"numa_nodes": "1"}, None, False, id="host without cells"),
        pytest.param({"numa_nodes": "1"}, [cell()], True, id="one cell"),
        pytest.param({"numa_nodes": "1"}, [cell(cpus=2), cell(cpus=2)], False, id="one cell too small"),
        pytest.param({"numa_nodes": "2"}, [cell(cpus=2), cell(cpus=2)], True, id="two cells"),
        pytest.param({"numa_nodes": "2"}, [cell()], False, id="each guest cell needs its own"),
        pytest.param({"numa_nodes": "2"}, [cell(memory_mb=2047), cell()], False, id="memory of one cell too small"),
        pytest.param(
            {"numa_nodes": "2", "numa_cpus.0": "0", "numa_cpus.1": "1-3", "numa_mem.0": "1024", "numa_mem.1": "3072"},
            [cell(cpus=3, memory_mb=3072), cell(cpus=1, memory_mb=1024)],
            True,
            id="uneven cells fit the other way round",
        ),
        pytest.param(
            {"numa_nodes": "2", "numa_cpus.0": "0-3,^3", "numa_cpus.1": "3", "numa_mem.0": "1024", "numa_mem.1": "3072"},
            [cell(cpus=3, memory_mb=3072), cell(cpus=1, memory_mb=1024)],
            False,
            id="uneven cells that do not fit",
        ),
        pytest.param({"cpu_policy": "dedicated"}, [cell(pinned_cpus=0)], True, id="CPUs of its own"),
        pytest.param({"cpu_policy": "dedicated"}, [cell(pinned_cpus=1)], False, id="a CPU is pinned already"),
        pytest.param({"numa_nodes": "1"}, [cell(pinned_cpus=1)], True, id="pinned CPUs may be shared"),
        pytest.param({"mem_page_size": "2MB"}, [cell(free_pages={"2048": 2048})], True, id="free huge pages"),
        pytest.param({"mem_page_size": "2048"}, [cell(free_pages={"2048": 2047})], False, id="one huge page short"),
        pytest.param({"mem_page_size": "large"}, [cell(free_pages={"4": 9999999, "1048576": 4})], True, id="any huge page"),
        pytest.param({"mem_page_size": "large"}, [cell(free_pages={"4": 9999999})], False, id="small pages are not huge"),
        pytest.param({"mem_page_size": "1GB"}, [cell(free_pages={"2048": 4096})], False, id="pages of another size"),
    ],
)
def test_topology(specs, cells, passes):
    assert (judged(specs, cells) is None) is passes


@pytest.mark.parametrize(
    ("dedicated", "pinned", "own", "passes"),
    [
        pytest.param("0-7", "", (), True, id="enough"),
        pytest.param("0-2,7", "", (), False, id="one of them in no cell"),
        pytest.param("0-3", "3", (), False, id="one is taken"),
        pytest.param("0-3", "3", (3,), True, id="taken by the guest itself, which is here"),
        pytest.param("", "", (), False, id="none is set aside"),
        pytest.param("0-1", "3", (3,), False, id="what the guest has is not set aside"),
    ],
)
def test_cpus_that_are_set_aside(dedicated, pinned, own, passes):
    here = host(numa_cells=[cell(cpu_list="0-3", pinned_cpu_list=pinned)], cpu_dedicated_set=dedicated)
    wanted = request(flavor=flavor(extra_specs={"hw:cpu_policy": "dedicated"}, vcpus=4, ram=4096), requirements={"pinned_cpus": list(own)})
    wanted["instance"]["host"] = here["host"]
    assert (rejection(NUMATopologyFilter, here, wanted) is None) is passes


def test_memory_has_to_be_a_multiple_of_the_page_size():
    assert judged({"mem_page_size": "1GB"}, [cell(free_pages={"1048576": 9})], ram=4097) is not None


def test_reason():
    refused = judged({"numa_nodes": "2", "mem_page_size": "2MB"}, [cell(free_pages={"2048": 10})])
    assert refused["reason"] == ("needs NUMA cells of 2 CPUs with 2048 MB + 2 CPUs with 2048 MB in pages of 2048 KiB; the host has cell 0: 4 CPUs with 20 MB")


def test_many_cells_take_no_time():
    cells = [cell(cpus=1) for _number in range(64)]
    assert judged({"numa_nodes": "32"}, cells, vcpus=64, ram=8192) is not None


@pytest.mark.parametrize(
    "specs",
    [
        {"numa_nodes": "3"},
        {"numa_nodes": "65"},
        {"numa_nodes": "0"},
        {"numa_nodes": "2", "numa_cpus.0": "0"},
        {"numa_nodes": "1", "numa_cpus.0": "0-2", "numa_mem.0": "4096"},
        {"numa_nodes": "1", "numa_cpus.0": "0-9007199254740992", "numa_mem.0": "4096"},
        {"mem_page_size": "2 elephants"},
    ],
)
def test_malformed(specs):
    with pytest.raises(ValidationError, match=r"^request\.flavor\.extra_specs\.hw:"):
        judged(specs, [cell()])
