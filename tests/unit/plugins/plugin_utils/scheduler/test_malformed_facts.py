# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Facts that only some filters and weighers read: whatever they hold, the answer is a decision or an error that names the field."""

from __future__ import annotations

import itertools

import pytest

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.registry import FILTERS, WEIGHERS
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.select import select_destinations
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.validation import ValidationError
from ansible_collections.kvmfleet.compute.tests.unit.plugins.plugin_utils.scheduler.fleet import flavor, host, request

KEYS = [
    "aggregates",
    "bases",
    "bridges",
    "capabilities",
    "cgroup_version",
    "claims",
    "cpu",
    "disk_directories",
    "disk_free_mb",
    "domains",
    "emulators",
    "failed_builds",
    "files",
    "firmware",
    "host_ip",
    "hypervisor_version",
    "instances",
    "machine_types",
    "exclusive",
    "macs",
    "maintenance",
    "mappings",
    "metrics",
    "networks",
    "numa_cells",
    "num_instances",
    "num_io_ops",
    "nwfilters",
    "pci_devices",
    "pools",
    "reserved",
    "supported_instances",
    "tpm",
]
BAD = [
    7,
    -1,
    "text",
    True,
    float("nan"),
    [7],
    ["text"],
    [None],
    [[]],
    [["a"]],
    {},
    {"cpu_info": 7},
    {"cpu_info": {"maxphysaddr": [1]}},
    {"features": 7, "virt_type": "kvm"},
]
BAD += [
    {"bridges": 7, "pools": {"fast": 7}},
    {"models": 3},
    {"virt_type": "kvm", "models": [], "unusable_models": 3},
    {"/usr/bin": 7},
    {"backends": 7},
    {"backends": ["emulator"], "models": 3},
    {"kinds": 7, "loaders": 7},
    [{"count": "x"}],
    [{"cpus": None}],
]
BAD += [
    [{"cpus": 1, "memory_mb": 1, "free_pages": {"x": 1}}],
    [{"cpus": 1, "memory_mb": 1, "cpu_list": "x"}],
    [{"image_properties": 7, "vcpus": "x", "memory_mb": []}],
    [{"role": "destination", "bytes": "x"}],
    [{"name": ["vms"], "active": "x", "type": 7, "path": 7}],
    {"load": "x"},
]
ASKED = request(
    "kvm9",
    availability_zone="any",
    flavor=flavor(extra_specs={"hw:numa_nodes": "1", "hw:mem_page_size": "large", "pci_passthrough:alias": "gpu", "capabilities:cpu_info:vendor": "AMD"}),
    image={"properties": {"hw_architecture": "x86_64", "img_hv_requested_version": ">=1.0", "hw_maxphysaddr_bits": "40"}},
    server_group={"policy": "anti-affinity", "members": ["u-1"]},
    scheduler_hints={"different_host": "a", "same_host": "b", "build_near_host_ip": "10.0.0.1", "query": ["=", "$num_instances", 1]},
    requirements={
        "arch": "x86_64",
        "virt_type": "kvm",
        "machine": "q35",
        "emulator": "/usr/bin/kvm",
        "loader": "/usr/bin/a.fd",
        "firmware": "efi",
        "secure_boot": True,
        "tpm": {"model": "tpm-crb"},
        "cpu": {"mode": "custom", "model": "EPYC", "features": ["aes"]},
        "cpu_shares": 1,
        "host_cpus": {"cpus": [0], "nodes": [0]},
        "huge_pages": {"page_kib": None, "memory_mb": 1, "nodes": None},
        "networks": ["a"],
        "bridges": ["a"],
        "nwfilters": ["a"],
        "macs": ["a"],
        "exclusive": {"tcp_port": ["5911"]},
        "pools": ["vms"],
        "directories": ["vms"],
        "named": {"bridges": {"a": "prod"}, "pools": {"vms": "fast"}, "emulators": {"/usr/bin/kvm": "qemu"}, "firmware": {"/usr/bin/a.fd": "code"}},
        "overlay_bytes": 1,
        "bases": [{"sha256": "aa", "size_bytes": 1}],
    },
)
OPTIONS = {
    "enabled_filters": list(FILTERS),
    "weighers": dict.fromkeys(WEIGHERS, 1.0),
    "pci_alias": {"gpu": {"vendor_id": "10de"}},
    "metrics_weight_setting": {"load": 1},
    "reserved_rule": "placement",
}


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("current", ["kvm1", "kvm9"])
def test_a_decision_or_an_error_that_names_the_field(key, current):
    asked = {**ASKED, "instance": {"name": "web1", "uuid": "me", "host": current}}
    for bad, options in itertools.product(BAD, (OPTIONS, {**OPTIONS, "enabled_filters": [], "metrics_required": False})):
        try:
            result = select_destinations([host("kvm1", **{key: bad}), host("kvm2")], asked, options)
        except ValidationError as error:
            named = error.field
        else:
            named = f"hosts[0].{key}"
            assert set(result["rejected"]) | {item["host"] for item in result["ranked"]} == {"kvm1", "kvm2"}
        assert named.startswith(f"hosts[0].{key}"), bad
