# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.select import select_destinations
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.validation import ValidationError
from ansible_collections.kvmfleet.compute.tests.unit.plugins.plugin_utils.scheduler.fleet import aggregate, flavor, host, request

NAN, INFINITE = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"memory_mb": "lots"}, "hosts[1].memory_mb: expected a number >= 0, got 'lots'"),
        ({"memory_mb": None}, "hosts[1].memory_mb: expected a number >= 0, got nothing"),
        ({"memory_mb": NAN}, "hosts[1].memory_mb: expected a number >= 0, got nan"),
        ({"memory_mb": "nan"}, "hosts[1].memory_mb: expected a number >= 0, got 'nan'"),
        ({"memory_mb": INFINITE}, "hosts[1].memory_mb: expected a number of at most 9007199254740992, got inf"),
        ({"memory_mb": 10**30}, "hosts[1].memory_mb: expected a number of at most 9007199254740992, got 1000000000000000000000000000000"),
        ({"memory_mb": "9" * 5000}, "hosts[1].memory_mb: expected a number >= 0, got '99999"),
        ({"memory_mb": True}, "hosts[1].memory_mb: expected a number >= 0, got True"),
        ({"memory_mb": [8192]}, "hosts[1].memory_mb: expected a number >= 0, got [8192]"),
        ({"memory_mb_used": -1}, "hosts[1].memory_mb_used: expected a number >= 0, got -1"),
        ({"vcpus": "8 cores"}, "hosts[1].vcpus: expected a number >= 0, got '8 cores'"),
        ({"vcpus_used": {}}, "hosts[1].vcpus_used: expected a number >= 0, got {}"),
        ({"local_gb": "\u0663"}, "hosts[1].local_gb: expected a number >= 0, got '\u0663'"),
        ({"local_gb_used": "1e3"}, "hosts[1].local_gb_used: expected a number >= 0, got '1e3'"),
        ({"disk_available_least": "none"}, "hosts[1].disk_available_least: expected a number, got 'none'"),
        ({"ram_allocation_ratio": 0}, "hosts[1].ram_allocation_ratio: expected a number > 0, got 0"),
        ({"cpu_allocation_ratio": "-1"}, "hosts[1].cpu_allocation_ratio: expected a number > 0, got '-1'"),
        ({"num_io_ops": "many"}, "hosts[1].num_io_ops: expected a number >= 0, got 'many'"),
        ({"enabled": "maybe"}, "hosts[1].enabled: expected true or false, got 'maybe'"),
        ({"up": 2}, "hosts[1].up: expected true or false, got 2"),
        ({"up": []}, "hosts[1].up: expected true or false, got []"),
        ({"host": ""}, "hosts[1].host: expected a name of 1 to 128 characters"),
        ({"host": None}, "hosts[1].host: expected a name of 1 to 128 characters"),
        ({"host": "a\nb"}, "hosts[1].host: expected a name"),
        ({"host": "$(reboot)"}, "hosts[1].host: expected a name"),
        ({"host": "kvm1"}, "hosts[1].host: expected every host once (it is hosts[0] already), got 'kvm1'"),
        ({"availability_zone": "az 1"}, "hosts[1].availability_zone: expected a name"),
        ({"aggregates": "ssd"}, "hosts[1].aggregates: expected a list, got 'ssd'"),
        ({"aggregates": ["ssd"]}, "hosts[1].aggregates[0]: expected a mapping, got 'ssd'"),
        ({"aggregates": [{"metadata": 1}]}, "hosts[1].aggregates[0].metadata: expected a mapping, got 1"),
        (
            {"aggregates": [aggregate(), aggregate(ram_allocation_ratio="x")]},
            "hosts[1].aggregates[1].metadata.ram_allocation_ratio: expected a number > 0, got 'x'",
        ),
    ],
)
def test_a_malformed_host_names_field_and_value(changes, error):
    state = {**host("kvm2"), **changes}
    with pytest.raises(ValidationError) as caught:
        select_destinations([host("kvm1"), state], request())
    assert str(caught.value).startswith(error)


@pytest.mark.parametrize(
    ("hosts", "asked", "scheduler", "error"),
    [
        ("kvm1", request(), None, "hosts: expected a list, got 'kvm1'"),
        ({"kvm1": {}}, request(), None, "hosts: expected a list, got {'kvm1': {}}"),
        ([1], request(), None, "hosts[0]: expected a mapping, the state of one host, got 1"),
        ([], None, None, "request: expected a mapping with instance and flavor, got nothing"),
        ([], {}, None, "request.flavor: expected a mapping with vcpus, ram and disk, got nothing"),
        ([], request(flavour=1), None, "request.flavour: expected one of instance, flavor, project_id, image, availability_zone, target_host"),
        ([], request(flavor=flavor(memory=1)), None, "request.flavor.memory: expected one of name, vcpus, ram, disk, ephemeral, swap, extra_specs"),
        ([], request(flavor={"vcpus": 1, "disk": 1}), None, "request.flavor.ram: expected a number >= 1, got nothing"),
        ([], request(flavor=flavor(ram=-1)), None, "request.flavor.ram: expected a number >= 1, got -1"),
        ([], request(flavor=flavor(ram=True)), None, "request.flavor.ram: expected a number >= 1, got True"),
        ([], request(flavor=flavor(disk=NAN)), None, "request.flavor.disk: expected a number >= 0, got nan"),
        ([], request(flavor=flavor(extra_specs=["a"])), None, "request.flavor.extra_specs: expected a mapping, got ['a']"),
        ([], request(flavor=flavor(extra_specs={"a": []})), None, "request.flavor.extra_specs.a: expected a string, got []"),
        (
            [],
            request(instance={"nmae": "x"}),
            None,
            "request.instance.nmae: expected one of name, uuid, host, availability_zone, flavor (did you mean 'name'?)",
        ),
        ([], request(instance="web1"), None, "request.instance: expected a mapping, got 'web1'"),
        ([], request(instance={"name": "a/b"}), None, "request.instance.name: expected a name"),
        ([], request(instance={"flavor": {"vcpus": 1}}), None, "request.instance.flavor.ram: expected a number >= 1, got nothing"),
        ([], request(availability_zone=["az1"]), None, "request.availability_zone: expected a name"),
        ([], request(target_host="../x"), None, "request.target_host: expected a name"),
        ([], request(ignore_hosts="kvm1"), None, "request.ignore_hosts: expected a list, got 'kvm1'"),
        ([], request(ignore_hosts=[1]), None, "request.ignore_hosts[0]: expected a name"),
        ([], request(retry=["kvm1"]), None, "request.retry: expected a mapping, got ['kvm1']"),
        ([], request(retry={"hosts": [["a", "b", "c"]]}), None, "request.retry.hosts[0]: expected a name"),
        ([], request(retry={"num_attempts": "two"}), None, "request.retry.num_attempts: expected a whole number >= 0, got 'two'"),
        ([], request(image={"property": {}}), None, "request.image.property: expected one of id, properties (did you mean 'properties'?), got 'property'"),
        ([], request(allow_resize_to_same_host="perhaps"), None, "request.allow_resize_to_same_host: expected true or false, got 'perhaps'"),
        ([], request(), ["RamFilter"], "scheduler: expected a mapping, got ['RamFilter']"),
        ([], request(), {"ram_alocation_ratio": 2}, "scheduler.ram_alocation_ratio: expected one of enabled_filters, weighers, cpu_allocation_ratio"),
        ([], request(), {"ram_allocation_ratio": "much"}, "scheduler.ram_allocation_ratio: expected a number > 0, got 'much'"),
        ([], request(), {"max_attempts": 0}, "scheduler.max_attempts: expected a whole number >= 1, got 0"),
        ([], request(), {"max_attempts": 1.5}, "scheduler.max_attempts: expected a whole number >= 1, got 1.5"),
        ([], request(), {"shuffle_seed": [1]}, "scheduler.shuffle_seed: expected a whole number or a string, got [1]"),
        ([], request(), {"enabled_filters": "RamFilter"}, "scheduler.enabled_filters: expected a list, got 'RamFilter'"),
        ([], request(), {"enabled_filters": ["RamFilter", "RamFliter"]}, "scheduler.enabled_filters[1]: expected one of AggregateCoreFilter, "),
        ([], request(), {"weighers": {"RamWeigher": 1}}, "scheduler.weighers.RamWeigher: expected one of BaseImageWeigher, "),
        ([], request(), {"weighers": {"RAMWeigher": "x"}}, "scheduler.weighers.RAMWeigher: expected a number, got 'x'"),
    ],
)
def test_malformed_arguments_name_field_and_value(hosts, asked, scheduler, error):
    with pytest.raises(ValidationError) as caught:
        select_destinations(hosts, asked, scheduler)
    assert str(caught.value).startswith(error)


def test_the_nearest_name_is_suggested():
    with pytest.raises(ValidationError, match=r"\(did you mean 'RamFilter'\?\), got 'RamFliter'"):
        select_destinations([], request(), {"enabled_filters": ["RamFliter"]})
    with pytest.raises(ValidationError, match=r"\(did you mean 'flavor'\?\), got 'flavour'"):
        select_destinations([], request(flavour={}))


def test_unknown_keys_of_a_host_are_left_alone():
    assert select_destinations([host("kvm1", domains=[{"name": "x"}], tools={})], request())["selected"] == "kvm1"
