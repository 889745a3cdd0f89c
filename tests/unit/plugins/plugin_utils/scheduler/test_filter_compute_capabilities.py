# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.filters.compute_capabilities import ComputeCapabilitiesFilter
from ansible_collections.kvmfleet.compute.tests.unit.plugins.plugin_utils.scheduler.fleet import flavor, host, rejection, request

FACTS = {
    "hypervisor_type": "QEMU",
    "arch": "x86_64",
    "capabilities": {
        "gpus": 2,
        "ssd": True,
        "cpu_info": {"vendor": "AMD", "features": ["aes", "avx512f"], "topology": {"cores": "4"}},
        "text": '{"inner": {"rank": 7}}',
        "broken": "{",
    },
}


@pytest.mark.parametrize(
    ("spec", "passes"),
    [
        ({}, True),
        ({"capabilities:gpus": "2"}, True),
        ({"capabilities:gpus": "3"}, False),
        ({"capabilities:gpus": ">= 2"}, True),
        ({"capabilities:gpus": "= 3"}, False),
        ({"capabilities:absent": "1"}, False),
        ({"capabilities:ssd": "True"}, True),
        ({"capabilities:cpu_info:vendor": "s== AMD"}, True),
        ({"capabilities:cpu_info:features": "<in> aes"}, True),
        ({"capabilities:cpu_info:features": "<in> avx"}, False),
        ({"capabilities:cpu_info:features": "<all-in> aes avx512f"}, True),
        ({"capabilities:cpu_info:features": "<all-in> aes sse"}, False),
        ({"capabilities:cpu_info:topology:cores": "<= 4"}, True),
        ({"capabilities:cpu_info:topology:cores:deeper": "1"}, False),
        ({"capabilities:text:inner:rank": "== 7"}, True),
        ({"capabilities:broken:inner": "1"}, False),
        ({"capabilities:hypervisor_type": "QEMU"}, True),
        ({"hypervisor_type": "xen"}, False),
        ({"arch": "<or> aarch64 <or> x86_64"}, True),
        ({"gpus": ">= 3"}, False),
        ({"unscoped_and_unknown": "1"}, True),
        ({"hw:cpu_policy": "dedicated", "quota:cpu_shares": "10"}, True),
    ],
)
def test_capabilities(spec, passes):
    refused = rejection(ComputeCapabilitiesFilter, host(**FACTS), request(flavor=flavor(extra_specs=spec)))
    assert (refused is None) is passes


def test_reason_lists_every_requirement_that_fails():
    specs = {"capabilities:gpus": ">= 4", "capabilities:tpm": "yes", "capabilities:ssd": "True"}
    refused = rejection(ComputeCapabilitiesFilter, host(**FACTS), request(flavor=flavor(extra_specs=specs)))
    assert refused["code"] == "capability"
    assert refused["reason"] == "capabilities:gpus is '2', which must be '>= 4'; does not report capabilities:tpm, which must be 'yes'"
    assert (refused["need"], refused["have"]) == (">= 4", "2")


@pytest.mark.parametrize(("bits", "passes"), [(48, True), (46, True), (52, False)])
def test_address_bits(bits, passes):
    state = host(capabilities={"cpu_info": {"maxphysaddr": {"bits": 48}}})
    asked = request(flavor=flavor(extra_specs={"hw:maxphysaddr_bits": str(bits)}))
    assert (rejection(ComputeCapabilitiesFilter, state, asked) is None) is passes


@pytest.mark.parametrize(
    ("spec", "passes"), [({"free_ram_mb": ">= 8192"}, True), ({"capabilities:free_ram_mb": ">= 8193"}, False), ({"vcpus_total": "== 8"}, True)]
)
def test_names_of_nova(spec, passes):
    assert (rejection(ComputeCapabilitiesFilter, host(), request(flavor=flavor(extra_specs=spec))) is None) is passes
