# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What extra specs come to, and which of them are refused."""

from __future__ import annotations

import contextlib
import re

import pytest
from hypothesis import given, strategies as st

from ansible_collections.kvmfleet.compute.plugins.module_utils._rules.errors import KvmfleetError
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.planning.extra_specs import SUPPORTED, changes_guest, dedicated_cells, tuning
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.validation import ValidationError

NOTHING = {"dedicated": False, "topology": None, "numa": None, "hugepages": None, "cputune": {}, "memtune": {}, "iotune": {}, "bandwidth": {}}


def read(vcpus=4, ram=4096, **specs):
    """Names are given without the namespace, `quota_` and `hw_` standing for it."""
    named = {re.sub("^(quota|hw)_", r"\1:", key): text for key, text in specs.items()}
    return tuning("f", {"vcpus": vcpus, "ram": ram, "extra_specs": named})


@pytest.mark.parametrize(
    ("specs", "expected"),
    [
        ({}, {}),
        ({"hw_cpu_policy": "shared", "hw_mem_page_size": "small"}, {}),
        ({"hw_cpu_policy": "dedicated"}, {"dedicated": True}),
        ({"hw_mem_page_size": "any"}, {}),
        ({"hw_mem_page_size": "4KB"}, {}),
        ({"hw_mem_page_size": "large"}, {"hugepages": "default"}),
        ({"hw_mem_page_size": "2MB"}, {"hugepages": 2048}),
        ({"hw_mem_page_size": "1048576"}, {"hugepages": 1048576}),
        ({"hw_cpu_cores": "2"}, {"topology": {"sockets": 2, "cores": 2, "threads": 1}}),
        ({"hw_cpu_max_sockets": "1"}, {"topology": {"sockets": 1, "cores": 4, "threads": 1}}),
        ({"hw_numa_nodes": "2"}, {"numa": {"nodes": 2, "cells": None}}),
        ({"hw_numa_nodes": "2", "hw_numa_cpus.0": "0-2", "hw_numa_cpus.1": "3", "hw_numa_mem.0": "1024", "hw_numa_mem.1": "3072"},
         {"numa": {"nodes": 2, "cells": [{"cpus": "0,1,2", "memory": 1024}, {"cpus": "3", "memory": 3072}]}}),
        ({"quota_cpu_shares": "2048", "quota_cpu_period": "100000", "quota_cpu_quota": "50000"},
         {"cputune": {"shares": 2048, "period": 100000, "quota": 50000}}),
        ({"quota_cpu_quota": "-1"}, {"cputune": {"quota": -1}}),
        ({"quota_memory_limit": "8192"}, {"memtune": {"hard_limit": 8388608}}),
        ({"quota_disk_read_bytes_sec": "1000", "quota_disk_write_iops_sec": "0", "quota_disk_total_iops_sec": "5"},
         {"iotune": {"read_bytes_sec": 1000, "total_iops_sec": 5}}),
        ({"quota_vif_inbound_average": "10", "quota_vif_inbound_burst": "7", "quota_vif_outbound_average": "0"},
         {"bandwidth": {"inbound": {"average": 10, "burst": 7}}}),
        ({"capabilities:hw_x": "a", "trait:HW_CPU": "required", "resources:VCPU": "2", "pci_passthrough:alias": "gpu:1", "ssd": "true",
          "aggregate_instance_extra_specs:os": "x", "somebody:quota": "1"}, {}),
    ],
)  # fmt: skip
def test_supported(specs, expected):
    assert read(**specs) == {**NOTHING, **expected}


@pytest.mark.parametrize(
    ("specs", "named"),
    [
        ({"hw_cpu_policy": "mixed"}, "hw:cpu_policy (mixed: "),
        ({"hw_cpu_realtime": "yes"}, "hw:cpu_realtime (unknown here)"),
        ({"hw_cpu_topology": "2"}, "hw:cpu_topology"),
        ({"hw_numa_nodez": "2"}, "hw:numa_nodez"),
        ({"quota_memory_reservation": "1"}, "quota:memory_reservation (libvirt cannot do it with QEMU)"),
        ({"quota_cpu_limit": "1"}, "quota:cpu_limit"),
        ({"quota_disk_read_bytes_sec_max": "1"}, "quota:disk_read_bytes_sec_max"),
        ({"quota_": "1"}, "quota: "),
        ({"hw_rng:allowed": "true"}, "hw:rng:allowed"),
        ({"os:secure_boot": "required"}, "os:secure_boot"),
        ({"accel:device_profile": "gpu"}, "accel:device_profile"),
    ],
)
def test_what_would_change_the_guest_and_is_not_applied_is_refused_by_name(specs, named):
    with pytest.raises(KvmfleetError) as caught:
        read(quota_cpu_shares="5", **specs)
    assert caught.value.code == "unsupported_extra_specs"
    assert f"f.extra_specs: this release does not apply {named}" in caught.value.message
    assert all(name in caught.value.message for name in SUPPORTED)
    assert caught.value.details["extra_specs"] == [re.sub("^(quota|hw)_", r"\1:", key) for key in specs]


def test_an_image_property_among_extra_specs_is_refused_too():
    with pytest.raises(KvmfleetError, match="hw_disk_bus"):
        tuning("f", {"vcpus": 1, "ram": 1, "extra_specs": {"hw_disk_bus": "scsi"}})


@pytest.mark.parametrize(
    ("specs", "message"),
    [
        ({"hw_cpu_policy": "exclusive"}, "hw:cpu_policy: expected shared, dedicated or mixed, got 'exclusive'"),
        ({"hw_cpu_cores": "two"}, "hw:cpu_cores: expected a whole number >= 1, got 'two'"),
        ({"hw_cpu_max_sockets": "1", "hw_cpu_max_cores": "1", "hw_cpu_max_threads": "2"},
         "hw:cpu_max_sockets: expected limits that 4 vCPUs can be divided into, got '1 sockets x 1 cores x 2 threads'"),
        ({"hw_numa_nodes": "3"}, "hw:numa_nodes: expected cells that 4 vCPUs and 4096 MB can be divided into evenly"),
        ({"hw_numa_nodes": "1", "hw_numa_mem.1": "7"}, "hw:numa_mem.1: expected hw:numa_nodes above 1, got '7'"),
        ({"hw_numa_nodes": "2", "hw_numa_cpus.0": "0-1", "hw_numa_cpus.1": "1-2", "hw_numa_mem.0": "1024", "hw_numa_mem.1": "3072"},
         "hw:numa_nodes: expected cells that add up to the 4 vCPUs and 4096 MB of the flavor, each vCPU"),
        ({"hw_numa_cpus.x": "0"}, "hw:numa_cpus.x: expected the number of a cell after the dot, got '0'"),
        ({"hw_mem_page_size": "2 elephants"}, "hw:mem_page_size: expected small, large, any or a size"),
        ({"quota_cpu_shares": "0"}, "quota:cpu_shares: expected a whole number >= 1, got '0'"),
        ({"quota_cpu_period": "999"}, "quota:cpu_period: expected a whole number >= 1000, got '999'"),
        ({"quota_cpu_period": "1000001"}, "quota:cpu_period: expected a whole number from 1000 to 1000000, got '1000001'"),
        ({"quota_cpu_quota": "-2"}, "quota:cpu_quota: expected a whole number >= 1000, got '-2'"),
        ({"quota_memory_limit": "4096"}, "quota:memory_limit: expected more than the flavor's 4096 MiB"),
        ({"quota_disk_total_bytes_sec": "1", "quota_disk_read_bytes_sec": "1"}, "quota:disk_total_bytes_sec: expected a limit of the total, or one of reads"),
        ({"quota_disk_read_iops_sec": "1e3"}, "quota:disk_read_iops_sec: expected a whole number >= 0, got '1e3'"),
        ({"quota_vif_outbound_peak": "5"}, "quota:vif_outbound_average: expected a rate in KiB/s, which peak needs, got nothing"),
    ],
)  # fmt: skip
def test_values_that_are_none(specs, message):
    with pytest.raises(ValidationError) as caught:
        read(**specs)
    assert str(caught.value).startswith(f"f.extra_specs.{message}")


@pytest.mark.parametrize(
    ("specs", "cells"),
    [
        ({}, None),
        ({"hw:cpu_policy": "shared", "hw:numa_nodes": "2"}, None),
        ({"hw:cpu_policy": "dedicated"}, [[0, 1, 2, 3]]),
        ({"hw:cpu_policy": "dedicated", "hw:numa_nodes": "2"}, [[0, 1], [2, 3]]),
        ({"hw:cpu_policy": "dedicated", "hw:numa_nodes": "2", "hw:numa_cpus.0": "0,3,1", "hw:numa_cpus.1": "2", "hw:numa_mem.0": "96", "hw:numa_mem.1": "4000"},
         [[0, 1, 3], [2]]),
    ],
)  # fmt: skip
def test_which_vcpus_share_a_numa_node(specs, cells):
    assert dedicated_cells("f", {"vcpus": 4, "ram": 4096, "extra_specs": specs}) == cells


def test_a_topology_of_absurdly_many_vcpus_takes_no_time():
    with pytest.raises(ValidationError, match="at most 8192 vCPUs"):
        read(vcpus=2**53, hw_cpu_cores="2")


def test_what_is_about_the_guest():
    specs = {"hw:a": "1", "quota:b": "2", "os:c": "3", "capabilities:d": "4", "e": "5", "hw_f": "6", "hwg": "7"}
    assert list(changes_guest(specs)) == ["hw:a", "quota:b", "os:c", "hw_f"]


KEYS = st.sampled_from([key.replace(".N", f".{index}") for key in SUPPORTED for index in (0, 1, "x")]) | st.text(max_size=12)
VALUES = st.sampled_from(("", "0", "-1", "1", "2", "4", "1024", "3072", "0-1", "2-3", "^1", "1-", "large", "2MB", "1GB", "shared", "9" * 17, "\u0662", "1e9"))


@given(st.dictionaries(KEYS, VALUES | st.text(max_size=6), max_size=6))
def test_whatever_is_written_is_answered(specs):
    with contextlib.suppress(KvmfleetError, ValidationError):
        assert tuning("f", {"vcpus": 4, "ram": 4096, "extra_specs": specs}).keys() == NOTHING.keys()
