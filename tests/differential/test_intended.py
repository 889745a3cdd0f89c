# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where we decide differently on purpose: one test for each entry of INTENDED.md, with Nova's answer beside ours."""

from __future__ import annotations

import json
from typing import Any

import pytest
from nova import objects
from nova.virt import hardware

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.select import select_destinations
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.validation import ValidationError
from bench.placement import fleet, nova_scheduler
from tests.differential.compare import Verdict, by_nova, by_us

RAM = {"RAMWeigher": 1.0}
GUEST = "6f70656e-7374-4163-8b00-000000000001"


def host(name: str, zone: str = "az1", **changes: Any) -> dict[str, Any]:
    """A host with plenty of everything."""
    return {
        **fleet.fleet(1, 0, roomy=True)[0],
        "host": name,
        "availability_zone": zone,
        "aggregates": [],
        "enabled": True,
        "up": True,
        "vcpus": 16,
        "vcpus_used": 0,
        "memory_mb": 65536,
        "memory_mb_used": 0,
        "local_gb": 1000,
        "local_gb_used": 0,
        "disk_available_least": None,
        "instances": [],
        "num_instances": 0,
        **changes,
    }


def request(current: str, **changes: Any) -> dict[str, Any]:
    return {
        "instance": {"name": "web1", "uuid": GUEST, "host": current},
        "flavor": {"vcpus": 1, "ram": 1024, "disk": 10, "ephemeral": 0, "swap": 0, "extra_specs": {}},
        "image": {"properties": {}},
        "availability_zone": "az1",
        "ignore_hosts": [],
        "retry": {"hosts": []},
        "server_group": {},
        "allow_resize_to_same_host": False,
        **changes,
    }


def both(hosts: list[dict[str, Any]], asked: dict[str, Any], filters: list[str], **options: Any) -> tuple[Verdict, Verdict]:
    return by_us(hosts, asked, filters, RAM, **options), by_nova(hosts, asked, filters, RAM)


def test_1_the_zone_sticks() -> None:
    ours, nova = both([host("a"), host("b", "az2"), host("c")], request("a", availability_zone=None), ["AvailabilityZoneFilter"])
    assert ours.order == ["c"]
    assert nova.order == ["b", "c"]


def test_2_every_filter_is_asked_about_every_host() -> None:
    hosts = [host("a"), host("b", enabled=False, memory_mb=512), host("c")]
    answer = select_destinations(hosts, request("a"), {"preset": "article", "enabled_filters": ["ComputeFilter", "RamFilter"]})
    assert [reason["filter"] for reason in answer["rejected"]["b"]] == ["ComputeFilter", "RamFilter"]


def test_3_in_place_first_and_charged_once() -> None:
    hosts = [host("a", memory_mb=4096, memory_mb_used=2048, ram_allocation_ratio=1.0), host("b")]
    asked = request("a", allow_resize_to_same_host=True)
    asked["flavor"] = {**asked["flavor"], "ram": 4096}
    asked["instance"]["flavor"] = {"vcpus": 1, "ram": 2048, "disk": 10}
    ours, nova = both(hosts, asked, ["RamFilter"], prefer_same_host=True)
    assert ours.order == ["a", "b"]
    assert nova.order == ["b"]


def test_4_a_guest_does_not_hold_itself_back_by_affinity() -> None:
    hosts = [host("a", instances=[GUEST]), host("b")]
    ours, nova = both(hosts, request("a", server_group={"policy": "affinity", "members": [GUEST]}), ["ServerGroupAffinityFilter"])
    assert ours.order == ["b"]
    assert nova.order == []


def test_5_an_exact_fit_is_not_lost_to_binary_fractions() -> None:
    hosts = [host("a"), host("b", memory_mb=100, memory_mb_used=55, ram_allocation_ratio=1.15)]
    asked = request("a")
    asked["flavor"] = {**asked["flavor"], "ram": 60}
    ours, nova = both(hosts, asked, ["RamFilter"])
    assert 100 * 1.15 - 55 < 60
    assert ours.order == ["b"]
    assert nova.order == []


def test_6_a_host_that_tells_no_cpus_has_none() -> None:
    ours, nova = both([host("a"), host("b", vcpus=0)], request("a"), ["CoreFilter"])
    assert ours.order == []
    assert nova.order == ["b"]


def test_7_a_disabled_host_is_refused_whatever_the_filters() -> None:
    ours, nova = both([host("a"), host("b", enabled=False)], request("a"), ["RamFilter"])
    assert ours.order == []
    assert nova.order == ["b"]


def test_8_a_wrong_ratio_of_an_aggregate_is_an_error() -> None:
    hosts = [host("a"), host("b", aggregates=[{"name": "g", "metadata": {"ram_allocation_ratio": "much"}}])]
    assert by_nova(hosts, request("a"), ["AggregateRamFilter"], RAM).order == ["b"]
    with pytest.raises(ValidationError, match=r"hosts\[1\]\.aggregates\[0\]\.metadata\.ram_allocation_ratio: expected a number > 0, got 'much'"):
        by_us(hosts, request("a"), ["AggregateRamFilter"], RAM)


def test_9_a_wrong_extra_spec_names_itself() -> None:
    asked = request("a")
    asked["flavor"]["extra_specs"] = {"capabilities:hypervisor_version": ">= new"}
    with pytest.raises(ValueError, match="could not convert string to float"):
        by_nova([host("a"), host("b")], asked, ["ComputeCapabilitiesFilter"], RAM)
    with pytest.raises(ValidationError, match=r"request\.flavor\.extra_specs\.capabilities:hypervisor_version"):
        by_us([host("a"), host("b")], asked, ["ComputeCapabilitiesFilter"], RAM)


def wanting(spec: str, requirement: str) -> dict[str, Any]:
    asked = request("a")
    asked["flavor"]["extra_specs"] = {spec: requirement}
    return asked


def nova_passes(hosts: list[dict[str, Any]], filters: list[str], **spec: Any) -> list[str]:
    """What Nova leaves of the hosts, with more in its request than the comparison puts there."""
    manager = nova_scheduler.Manager(filters, RAM)
    manager.load(hosts)
    made = nova_scheduler.request_spec(request("a"), hosts)
    for name, value in spec.items():
        setattr(made, name, value)
    return [state.host for state in manager.get_filtered_hosts(manager.states(), made)]


@pytest.mark.parametrize("operator", ["<in>", "<all-in>"])
def test_10_a_list_is_compared_by_element(operator: str) -> None:
    others = {name: {"cpu": json.dumps({"features": features})} for name, features in (("b", ["aes-ni", "avx"]), ("c", ["aes"]))}
    hosts = [host("a"), *(host(name, capabilities=capabilities) for name, capabilities in others.items())]
    ours, nova = both(hosts, wanting("capabilities:cpu:features", f"{operator} aes"), ["ComputeCapabilitiesFilter"])
    assert ours.order == ["c"]
    assert nova.order == ["b", "c"]


def test_11_what_is_no_number_fulfils_no_comparison_of_numbers() -> None:
    hosts, asked = [host("a"), host("b", capabilities={"bits": "many"}), host("c", capabilities={"bits": "48"})], wanting("capabilities:bits", ">= 46")
    with pytest.raises(ValueError, match="could not convert string to float: 'many'"):
        by_nova(hosts, asked, ["ComputeCapabilitiesFilter"], RAM)
    assert by_us(hosts, asked, ["ComputeCapabilitiesFilter"], RAM).order == ["c"]


def test_12_any_fact_of_a_host_can_be_asked_for() -> None:
    hosts = [host("a"), host("b", cpu_model="EPYC"), host("c", cpu_model="Haswell")]
    ours, nova = both(hosts, wanting("cpu_model", "EPYC"), ["ComputeCapabilitiesFilter"])
    assert ours.order == ["b"]
    assert nova.order == ["b", "c"]


def test_13_an_aggregate_isolates_by_properties_that_nova_does_not_know() -> None:
    hosts = [host("a"), host("b", aggregates=[{"name": "g", "metadata": {"licence": "gold"}}])]
    ours, nova = both(hosts, request("a", image={"properties": {"licence": "none"}}), ["AggregateImagePropertiesIsolation"])
    assert ours.order == []
    assert nova.order == ["b"]


def test_14_a_host_that_is_named_has_to_pass_the_filters() -> None:
    hosts = [host("a"), host("b", memory_mb=512)]
    assert nova_passes(hosts, ["RamFilter"], force_hosts=["b"]) == ["b"]
    assert by_us(hosts, request("a", target_host="b"), ["RamFilter"], RAM).order == []


@pytest.mark.parametrize(("query", "error"), [(["~", "$free_ram_mb", 1], KeyError), (["<", "$host", 1], TypeError)], ids=["operation", "types"])
def test_15_a_wrong_query_names_itself(query: list[Any], error: type[Exception]) -> None:
    hosts = [host("a"), host("b")]
    with pytest.raises(error):
        nova_passes(hosts, ["JsonFilter"], scheduler_hints={"query": [json.dumps(query)]})
    with pytest.raises(ValidationError, match=r"request\.scheduler_hints\.query"):
        by_us(hosts, request("a", scheduler_hints={"query": query}), ["JsonFilter"], RAM)


def test_16_a_numa_cell_is_charged_with_pages_and_pinned_cpus_alone() -> None:
    cell = objects.NUMACell(
        id=0, cpuset={0, 1}, pcpuset=set(), memory=2048, cpu_usage=0, memory_usage=2000, pinned_cpus=set(), siblings=[], mempages=[], socket=0
    )  # fmt: skip
    topology = objects.InstanceNUMATopology(cells=[objects.InstanceNUMACell(id=0, cpuset={0}, pcpuset=set(), memory=1024)])
    limits = objects.NUMATopologyLimits(cpu_allocation_ratio=1.0, ram_allocation_ratio=1.0)
    assert hardware.numa_fit_instance_to_host(objects.NUMATopology(cells=[cell]), topology, {}, limits=limits) is None
    hosts = [host("a"), host("b", numa_cells=[{"cpus": 2, "pinned_cpus": 0, "memory_mb": 2048, "free_pages": {}}])]
    assert by_us(hosts, wanting("hw:numa_nodes", "1"), ["NUMATopologyFilter"], RAM).order == ["b"]
