# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The raw values of all weighers but RAMWeigher, which has a file of its own."""

from __future__ import annotations

import pytest

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.context import Context
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.registry import WEIGHERS, weighers_for
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.weigh import weigh
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.validation import ValidationError
from ansible_collections.kvmfleet.compute.tests.unit.plugins.plugin_utils.scheduler.fleet import aggregate, host, request

MEMBERS = ["me", "a", "b"]
BASES = [{"sha256": "aa", "size_bytes": 500}, {"sha256": "bb", "size_bytes": 20}]


def weighed(weigher, states, asked=None, multiplier=1.0, **scheduler):
    """The weight of each host and what the weigher says of it, in the order of the hosts."""
    context = Context.build(states, asked or request(), {"weighers": {weigher: multiplier}, **scheduler})
    by_name = {item["host"]: item for item in weigh(context.hosts, range(len(context.hosts)), weighers_for(context))}
    return [by_name[name] for name in context.hosts]


def raws(weigher, states, asked=None, **scheduler):
    return [item["weights"][weigher]["raw"] for item in weighed(weigher, states, asked, **scheduler)]


def group(policy):
    return {"policy": policy, "members": MEMBERS}


@pytest.mark.parametrize(
    ("weigher", "first", "second", "expected", "asked"),
    [
        ("CPUWeigher", {"vcpus_used": 2}, {"cpu_allocation_ratio": 2}, [126, 16], {}),
        ("DiskWeigher", {"local_gb_used": 40}, {"disk_available_least": 1}, [60 * 1024, 1024], {}),
        ("IoOpsWeigher", {"num_io_ops": 3}, {}, [3, 0], {}),
        ("NumInstancesWeigher", {"num_instances": 4}, {"instances": ["a"]}, [4, 1], {}),
        ("HypervisorVersionWeigher", {"hypervisor_version": 7002022}, {}, [7002022, 0], {}),
        ("BuildFailureWeigher", {"failed_builds": 2}, {}, [2, 0], {}),
        ("PCIWeigher", {"pci_devices": [{"vendor_id": "10de", "count": 4}, {"vendor_id": "8086", "count": 200}]}, {}, [1, 100], {}),
        ("ServerGroupSoftAffinityWeigher", {"instances": ["a", "b", "x"]}, {"instances": ["x"]}, [2, 0], {"server_group": group("soft-affinity")}),
        ("ServerGroupSoftAntiAffinityWeigher", {"instances": ["a", "b", "x"]}, {"instances": ["x"]}, [-2, 0], {"server_group": group("soft-anti-affinity")}),
        ("BaseImageWeigher", {"bases": ["aa", "cc"]}, {"bases": ["bb"]}, [500, 20], {"requirements": {"bases": BASES}}),
        ("SameHostWeigher", {}, {}, [0, 1], {"instance": {"host": "kvm2"}}),
        (
            "ImagePropertiesWeigher",
            {"domains": [{"image_properties": {"os_distro": "debian", "hw_video_ram": 16}}, {"image_properties": {"os_distro": "debian"}}]},
            {"domains": [{"name": "x"}, {"image_properties": {"os_distro": "fedora"}}]},
            [3, 0],
            {"image": {"properties": {"os_distro": "debian", "hw_video_ram": "16"}}},
        ),
    ],
)
def test_raw_values(weigher, first, second, expected, asked):
    assert raws(weigher, [host("kvm1", **first), host("kvm2", **second)], request(**asked)) == expected


@pytest.mark.parametrize(
    "weigher", ["ServerGroupSoftAffinityWeigher", "ServerGroupSoftAntiAffinityWeigher", "MetricsWeigher", "BaseImageWeigher", "ImagePropertiesWeigher"]
)
def test_a_weigher_that_has_nothing_to_go_by_is_left_out(weigher):
    assert [item["weights"] for item in weighed(weigher, [host("kvm1"), host("kvm2")], request(server_group=group("anti-affinity")))] == [{}, {}]


@pytest.mark.parametrize("weigher", ["CPUWeigher", "DiskWeigher", "IoOpsWeigher"])
def test_below_zero_counts_as_zero(weigher):
    states = [host("kvm1", vcpus_used=999, local_gb_used=999), host("kvm2", vcpus_used=128, local_gb_used=100), host("kvm3", num_io_ops=1)]
    assert [item["weight"] for item in weighed(weigher, states)][:2] == [0, 0]


def test_idle_hosts_first_with_a_negative_multiplier():
    assert [item["weight"] for item in weighed("IoOpsWeigher", [host("kvm1", num_io_ops=4), host("kvm2", num_io_ops=1)], multiplier=-1)] == [-1, -0.25]


def test_failures_make_a_host_worse_by_the_multiplier():
    states = [host("kvm1", failed_builds=2), host("kvm2", failed_builds=1), host("kvm3")]
    assert [item["weight"] for item in weighed("BuildFailureWeigher", states, multiplier=10)] == [-10, -5, 0]
    states[0]["aggregates"] = [aggregate(build_failure_weight_multiplier="3"), aggregate(build_failure_weight_multiplier="2")]
    assert [item["weight"] for item in weighed("BuildFailureWeigher", states, multiplier=10)] == [-2, -5, 0]


@pytest.mark.parametrize("weigher", ["PCIWeigher", "ServerGroupSoftAffinityWeigher", "ServerGroupSoftAntiAffinityWeigher"])
def test_a_negative_multiplier_would_turn_the_meaning_around(weigher):
    with pytest.raises(ValidationError, match=f"^scheduler.weighers.{weigher}: expected a number >= 0, got -1.0"):
        weighed(weigher, [host()], multiplier=-1)


class TestMetrics:
    def test_sum(self):
        states = [host("kvm1", metrics={"load": 0.5, "iowait": 10}), host("kvm2", metrics={"load": 2, "iowait": "0"})]
        assert raws("MetricsWeigher", states, metrics_weight_setting={"load": -1, "iowait": 0.1}) == [0.5, -2]

    def test_a_missing_metric_is_an_error(self):
        with pytest.raises(ValidationError, match=r"^hosts\[1\]\.metrics\.load: expected a number"):
            raws("MetricsWeigher", [host("kvm1", metrics={"load": 1}), host("kvm2")], metrics_weight_setting={"load": 1})

    def test_or_makes_the_host_unattractive(self):
        options = {"metrics_weight_setting": {"load": 1, "iowait": 1}, "metrics_required": False}
        states = [host("kvm1", metrics={"load": 1}), host("kvm2", metrics={"load": 1, "iowait": 1})]
        assert raws("MetricsWeigher", states, **options) == [-10000, 2]
        assert raws("MetricsWeigher", states, **options, metrics_weight_of_unavailable=-1) == [-1, 2]
        options["metrics_weight_setting"] = {"load": 1, "iowait": 0}
        assert raws("MetricsWeigher", states, **options) == [1, 1]


def test_only_the_image_properties_that_were_named_count():
    domains = [{"image_properties": {"os_distro": "debian", "hw_video_ram": "16"}}]
    asked = request(image={"properties": {"os_distro": "debian", "hw_video_ram": "16"}})
    found = raws("ImagePropertiesWeigher", [host("kvm1", domains=domains), host("kvm2")], asked, image_props_weight_setting={"os_distro": 2.5})
    assert found == [2.5, 0]


def test_the_lowest_multiplier_of_the_aggregates_for_every_weigher():
    for name, cls in WEIGHERS.items():
        context = Context.build([host(aggregates=[aggregate(**{cls.multiplier_key: "10"}), aggregate(**{cls.multiplier_key: "9.5"})])], request(), {})
        assert cls(context, 1.0).multiplier(context.hosts["kvm1"]) == 9.5 * cls.sign, name
