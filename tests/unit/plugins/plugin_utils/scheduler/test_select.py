# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json

import pytest

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler import message
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.select import select_destinations
from ansible_collections.kvmfleet.compute.tests.unit.plugins.plugin_utils.scheduler.fleet import flavor, host, request

FLEET = [
    host("kvm1", "az1", memory_mb_used=6144),
    host("kvm2", "az1", memory_mb_used=2048),
    host("kvm3", "az2"),
    host("kvm4", "az1", enabled=False),
    {"host": "kvm5", "availability_zone": "az1", "up": False},
]


def codes(result):
    return {name: [reason["code"] for reason in reasons] for name, reasons in result["rejected"].items()}


@pytest.mark.invariant(7)
def test_an_instance_without_zone_stays_in_the_zone_of_its_host_though_the_roomiest_is_elsewhere():
    asked = request("kvm1", allow_resize_to_same_host=False)
    assert select_destinations(FLEET, asked)["selected"] == "kvm2"
    assert select_destinations(FLEET, {**asked, "availability_zone": "any"})["selected"] == "kvm3"
    assert select_destinations(FLEET, {**asked, "availability_zone": "az2"})["selected"] == "kvm3"


def test_no_room_in_the_zone_is_a_result_with_every_host_and_every_reason():
    result = select_destinations(FLEET, request("kvm1", flavor=flavor(ram=12000, vcpus=9)))
    assert result["selected"] is None
    assert result["alternates"] == result["ranked"] == []
    assert codes(result) == {
        "kvm1": ["ram", "vcpus"],
        "kvm2": ["ram", "vcpus"],
        "kvm3": ["other_zone", "ram", "vcpus"],
        "kvm4": ["disabled", "ram", "vcpus"],
        "kvm5": ["down"],
    }


def test_all_filters_speak_of_one_host():
    asked = request(
        "kvm2",
        flavor=flavor(ram=9000, vcpus=9, disk=101, extra_specs={"capabilities:gpus": ">= 1"}),
        image={"properties": {"hw_architecture": "aarch64"}},
        target_host="kvm3",
        ignore_hosts=["kvm1"],
        retry={"hosts": ["kvm1"]},
        availability_zone="az3",
    )
    result = select_destinations([host("kvm1", enabled=False, num_io_ops=8)], asked)
    assert codes(result)["kvm1"] == [
        "not_target_host",
        "ignored_host",
        "disabled",
        "already_tried",
        "other_zone",
        "ram",
        "capability",
        "image_properties",
        "vcpus",
        "disk",
        "io_ops",
    ]


def test_the_current_host_is_first_whatever_its_weight():
    result = select_destinations(FLEET, request("kvm1"))
    assert (result["selected"], result["alternates"]) == ("kvm1", ["kvm2"])
    assert "in place" in result["message"]
    assert codes(select_destinations(FLEET, request("kvm1", allow_resize_to_same_host=False)))["kvm1"] == ["same_host"]


@pytest.mark.parametrize("enabled", [None, [], ["RamFilter"]])
def test_a_guest_may_leave_a_disabled_host_never_stay(enabled):
    result = select_destinations(FLEET, request("kvm4"), {"enabled_filters": enabled})
    assert result["selected"] != "kvm4"
    assert codes(result)["kvm4"] == ["disabled"]


def test_alternates_are_the_next_best_up_to_max_attempts():
    fleet = [host(name, memory_mb_used=used) for name, used in (("a", 4000), ("b", 3000), ("c", 2000), ("d", 1000))]
    assert select_destinations(fleet, request())["alternates"] == ["c", "b"]
    assert select_destinations(fleet, request(), {"max_attempts": 1})["alternates"] == []
    assert select_destinations(fleet, request(), {"max_attempts": 9})["alternates"] == ["c", "b", "a"]


def test_target_host_is_filtered_like_any_other():
    result = select_destinations(FLEET, request("kvm1", target_host="kvm3"))
    assert result["selected"] is None
    assert codes(result)["kvm3"] == ["other_zone"]
    assert select_destinations(FLEET, request("kvm1", target_host="kvm3", availability_zone="any"))["selected"] == "kvm3"


def test_an_unknown_target_host_and_an_unknown_zone_are_said():
    message = select_destinations(FLEET, request("kvm1", target_host="kvm9"))["message"]
    assert "Target host kvm9 is not known; known hosts: kvm1, kvm2, kvm3, kvm4, kvm5." in message
    message = select_destinations(FLEET, request("kvm1", availability_zone="az9"))["message"]
    assert "No host is in zone az9; known zones: az1, az2." in message


def test_no_hosts_at_all():
    result = select_destinations([], request())
    assert result["message"] == "web1 (1 vCPUs, 1024 MB memory, 10240 MB disk) cannot be placed: 0 of 0 hosts fit."


def test_message_when_nothing_fits():
    result = select_destinations(FLEET, request("kvm1", flavor=flavor(ram=8192), ignore_hosts=["kvm2"]))
    assert result["message"].splitlines() == [
        "web1 (1 vCPUs, 8192 MB memory, 10240 MB disk) cannot be placed: 0 of 5 hosts fit: "
        "1 ignored host, 1 disabled, 1 down, 1 other zone, 1 RamFilter (need 8192 MB; best has 6144).",
        "  kvm1: RamFilter: needs 8192 MB, 6144 MB left of 12288 MB (8192 MB x 1.5), 6144 MB used",
        "  kvm3: AvailabilityZoneFilter: is in zone az2; the guest stays in zone az1 of its current host kvm1",
        "  kvm4: ComputeFilter: is disabled",
        "  kvm5: ComputeFilter: is down or did not answer",
        "  kvm2: IgnoreHostsFilter: is one of ignore_hosts",
        "It would fit with:",
        "  not ignoring kvm2",
        "  zone az2: kvm3",
        "  enabling kvm4",
        "  a flavor of at most 1 vCPUs, 6144 MB memory, 10240 MB disk: kvm1",
    ]


def test_histogram_counts_and_names_the_best():
    fleet = [host(f"kvm{used}", memory_mb_used=used) for used in (9216, 6144, 12288)]
    message = select_destinations(fleet, request(flavor=flavor(ram=8192)))["message"]
    assert "0 of 3 hosts fit: 3 RamFilter (need 8192 MB; best has 6144)." in message


def test_message_when_something_fits_is_one_line():
    message = select_destinations(FLEET, request("kvm1", allow_resize_to_same_host=False))["message"]
    assert message == (
        "web1 (1 vCPUs, 1024 MB memory, 10240 MB disk) goes to kvm2: 1 of 5 hosts fit, weight 0.00; no alternate; "
        "4 rejected: 1 same host, 1 disabled, 1 down, 1 other zone."
    )


def test_a_long_list_of_hosts_is_cut_but_the_nearest_is_shown(monkeypatch):
    monkeypatch.setattr(message, "HOST_LINES", 2)
    fleet = [host(f"kvm{number}", "az2", memory_mb=512) for number in range(9)] + [host("nearest", "az1", memory_mb=1000)]
    lines = select_destinations(fleet, request(availability_zone="az1"))["message"].splitlines()
    assert lines[1].startswith("  nearest: RamFilter")
    assert lines[3] == "  ... and 8 more hosts"


def test_wishes_that_no_filter_honours_are_said():
    wishes = {"server_group": {"policy": "soft-affinity", "members": []}, "scheduler_hints": {"query": ["and"], "same_host": ["x"], "cidr": "/8"}}
    message = select_destinations(FLEET, request("kvm1", **wishes), {"enabled_filters": ["SameHostFilter"], "weighers": {"RAMWeigher": 1}})["message"]
    honoured = [line for line in message.replace(". ", ".\n").splitlines() if "honours" in line]
    assert honoured == [
        "Note: nothing that is enabled honours request.scheduler_hints.query.",
        "Note: nothing that is enabled honours request.server_group.soft-affinity.",
    ]
    assert "Note" not in select_destinations(FLEET, request("kvm1", **{**wishes, "scheduler_hints": {}}))["message"]
    assert "Note" not in select_destinations(FLEET, request("kvm1", server_group={"policy": None, "members": []}))["message"]


def test_shuffle_keeps_to_the_best_and_is_repeatable():
    fleet = [host(name) for name in "abcdef"] + [host("worse", memory_mb_used=1024)]
    orders = set()
    for seed in range(20):
        options = {"shuffle_best_same_weighed_hosts": True, "shuffle_seed": seed, "max_attempts": 9}
        result = select_destinations(fleet, request(), options)
        assert result == select_destinations(fleet, request(), options)
        assert result["alternates"][-1] == "worse"
        orders.add((result["selected"], *result["alternates"]))
    assert len(orders) > 10


def test_host_subset_draws_from_the_best():
    fleet = [host(name, memory_mb_used=used) for name, used in (("a", 0), ("b", 100), ("c", 200), ("d", 300))]
    drawn = {select_destinations(fleet, request(), {"host_subset_size": 2, "shuffle_seed": str(seed)})["selected"] for seed in range(20)}
    assert drawn == {"a", "b"}
    assert select_destinations(fleet[:1], request(), {"host_subset_size": 5})["selected"] == "a"


def test_result_is_plain_json():
    for asked in (request("kvm1"), request("kvm1", flavor=flavor(ram=99999))):
        result = select_destinations(FLEET, asked)
        assert json.loads(json.dumps(result)) == result


def test_inputs_are_left_alone():
    before = json.dumps([FLEET, request("kvm1")])
    asked = request("kvm1")
    select_destinations(FLEET, asked)
    assert json.dumps([FLEET, asked]) == before
