# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.filters.cpu_compatibility import CpuCompatibilityFilter
from ansible_collections.kvmfleet.compute.tests.unit.plugins.plugin_utils.scheduler.fleet import host, rejection, request

EPYC = {"virt_type": "kvm", "model": "EPYC", "models": ["EPYC", "Nehalem"], "features": ["aes", "avx", "sse4.2", "svm"]}
OLD = {"virt_type": "kvm", "model": "Nehalem", "models": ["Nehalem"], "features": ["sse4.2"]}


def shown(vendor, model, *features):
    return {"capabilities": {"cpu_info": {"vendor": vendor, "model": model, "features": list(features)}}}


@pytest.mark.parametrize(
    ("cpu", "offered", "reason"),
    [
        pytest.param(None, OLD, None, id="no requirement"),
        pytest.param({"mode": "custom", "model": "EPYC", "features": ["aes", "avx"]}, EPYC, None, id="all features there"),
        pytest.param({"mode": "custom", "model": "EPYC", "features": ["avx", "aes"]}, OLD, "its CPU (Nehalem) lacks aes, avx", id="features named"),
        pytest.param({"mode": "custom", "model": "Nehalem", "features": ["sse4.2"]}, EPYC, None, id="another model that has all of it"),
        pytest.param(
            {"mode": "custom", "model": "EPYC"}, OLD, "cannot offer the CPU model EPYC; its own is Nehalem", id="by model where nobody listed the features"
        ),
        pytest.param({"mode": "custom", "model": "Nehalem"}, EPYC, None, id="known model"),
        pytest.param({"mode": "host-model", "features": ["avx"]}, OLD, None, id="fitted at the start"),
        pytest.param({"mode": "maximum"}, OLD, None, id="whatever there is"),
        pytest.param({"mode": "custom", "features": ["avx"]}, None, None, id="host that does not tell"),
        pytest.param({"mode": "custom", "features": ["avx"]}, {**OLD, "virt_type": "qemu"}, None, id="host that tells about another virtualization type"),
    ],
)
def test_custom(cpu, offered, reason):
    refused = rejection(CpuCompatibilityFilter, host(cpu=offered), request(requirements={"cpu": cpu, "virt_type": "kvm"}))
    assert (refused and refused["reason"]) == reason


@pytest.mark.parametrize(
    ("here", "there", "reason"),
    [
        (["EPYC-Turin"], ["EPYC"], "does not know the CPU model EPYC-Turin; its own is EPYC"),
        (["EPYC-Turin"], ["EPYC-Turin"], None),
        (["EPYC"], ["EPYC"], None),
        (None, ["EPYC"], "does not know the CPU model EPYC-Turin; its own is EPYC"),
        (["EPYC-Turin"], None, None),
    ],
    ids=["older QEMU", "known though its features are not all there", "the guest has another one in its place already", "old facts here", "old facts there"],
)
def test_a_model_that_the_host_does_not_know(here, there, reason):
    """Though it has every feature that the guest sees of it."""
    asked = request("source", requirements={"cpu": {"mode": "custom", "model": "EPYC-Turin", "features": ["aes"]}, "virt_type": "kvm"})
    old, source = (host(name, cpu={**EPYC, "models": [], "unusable_models": known}) for name, known in (("old", there), ("source", here)))
    refused = rejection(CpuCompatibilityFilter, old, asked, others=(source,))
    assert (refused and refused["reason"]) == reason


def test_many_missing_features_are_counted():
    features = [f"f{number}" for number in range(20)]
    refused = rejection(CpuCompatibilityFilter, host(cpu=OLD), request(requirements={"cpu": {"features": features}}))
    assert refused["reason"].endswith("f14, f15 and 12 more")
    assert refused["need"].count(",") == 19


def test_what_the_present_host_lacks_too_is_not_missed():
    asked = request("source", requirements={"cpu": {"mode": "custom", "features": ["sse4.2", "avx", "3dnow"]}, "virt_type": "kvm"})
    states = host("old", cpu=OLD), host("source", cpu=EPYC)
    assert rejection(CpuCompatibilityFilter, states[0], asked, others=states[1:])["need"] == "avx"


@pytest.mark.parametrize(
    ("there", "options", "reason"),
    [
        (shown("AMD", "EPYC", "a", "b"), {}, None),
        (shown("AMD", "EPYC", "a", "b", "c"), {}, None),
        (shown("AMD", "EPYC", "a"), {}, "lacks b, which the guest sees of its host (host-passthrough); allow_unlike_cpu permits it"),
        (shown("Intel", "Skylake", "a", "b"), {}, "has Intel Skylake, the guest sees the AMD EPYC of its host (host-passthrough); allow_unlike_cpu permits it"),
        (shown("Intel", "Skylake"), {"allow_unlike_cpu": True}, None),
    ],
)
def test_host_passthrough_needs_a_word_between_unlike_cpus(there, options, reason):
    asked, source = request("source", requirements={"cpu": {"mode": "host-passthrough"}}), host("source", **shown("AMD", "EPYC", "a", "b"))
    refused = rejection(CpuCompatibilityFilter, host(**there), asked, others=(source,), **options)
    assert (refused and refused["reason"]) == reason
    assert rejection(CpuCompatibilityFilter, source, asked, **options) is None
