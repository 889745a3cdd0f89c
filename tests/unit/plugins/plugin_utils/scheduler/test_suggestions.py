# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.select import select_destinations
from ansible_collections.kvmfleet.compute.tests.unit.plugins.plugin_utils.scheduler.fleet import flavor, host, request


def guest(name, vcpus=1, memory_mb=1024, disk_gb=10, uuid=None):
    return {"name": name, "uuid": uuid or f"u-{name}", "vcpus": vcpus, "memory_mb": memory_mb, "disk_gb": disk_gb}


def suggested(hosts, asked, **scheduler):
    result = select_destinations(hosts, asked, scheduler)
    assert result["selected"] is None
    return [item["text"] for item in result["suggestions"]]


@pytest.mark.parametrize(
    ("changes", "asked", "text"),
    [
        pytest.param({}, {"availability_zone": "az2"}, "zone az1: kvm1", id="another zone"),
        pytest.param({}, {"instance": {"host": "gone"}}, "zone az1: kvm1", id="a zone has to be named"),
        pytest.param({}, {"target_host": "kvm2"}, "another target host: kvm1", id="another target host"),
        pytest.param({}, {"ignore_hosts": ["kvm1"]}, "not ignoring kvm1", id="an ignored host"),
        pytest.param({"enabled": False}, {}, "enabling kvm1", id="a disabled host"),
        pytest.param({"maintenance": True}, {}, "ending the maintenance of kvm1", id="a host in maintenance"),
        pytest.param(
            {},
            {"instance": {"host": "kvm1"}, "allow_resize_to_same_host": False},
            "growing in place on kvm1 (allow_resize_to_same_host)",
            id="the current host",
        ),
    ],
)
def test_a_single_reason_is_a_way_out(changes, asked, text):
    assert suggested([host("kvm1", **changes)], request(**asked)) == [text]


def test_two_reasons_are_none():
    assert suggested([host("kvm1", enabled=False)], request(availability_zone="az2")) == []
    assert suggested([host("kvm1", up=False)], request()) == []


def test_the_way_with_most_hosts_first():
    fleet = [host("kvm0", enabled=False), *(host(f"kvm{number}", "az2") for number in range(1, 8)), host("kvm9", "az3")]
    assert suggested(fleet, request(availability_zone="az1")) == [
        "zone az2: kvm1, kvm2, kvm3, kvm4, kvm5 and 2 more",
        "enabling kvm0",
        "zone az3: kvm9",
    ]


def test_the_smallest_guest_that_makes_room():
    fleet = [
        host("kvm1", memory_mb_used=8192, domains=[guest("small", memory_mb=512), guest("large", memory_mb=6144), guest("middle", memory_mb=4096)]),
        host("kvm2", memory_mb_used=8192, domains=[guest("larger", memory_mb=5000), guest("web1", memory_mb=4096, uuid="me")]),
    ]
    asked = request(flavor=flavor(ram=8000))
    asked["instance"]["uuid"] = "me"
    assert suggested(fleet, asked)[0] == "moving middle (1 vCPUs, 4096 MB memory) off kvm1"


def test_a_guest_has_to_free_everything_that_is_short():
    state = host("kvm1", memory_mb_used=12288, vcpus_used=128, domains=[guest("memory", memory_mb=8192), guest("cpus", vcpus=8)])
    assert suggested([state], request(flavor=flavor(ram=4096, vcpus=4))) == []
    state["domains"].append(guest("both", memory_mb=4096, vcpus=4))
    assert suggested([state], request(flavor=flavor(ram=4096, vcpus=4))) == ["moving both (4 vCPUs, 4096 MB memory) off kvm1"]


def test_no_guest_helps_where_the_whole_host_is_too_small():
    state = host("kvm1", domains=[guest("large", memory_mb=8192)])
    assert suggested([state], request(flavor=flavor(ram=9000))) == ["a flavor of at most 1 vCPUs, 8192 MB memory, 10240 MB disk: kvm1"]


def test_the_flavor_that_the_nearest_host_has_room_for():
    fleet = [host("kvm1", memory_mb_used=8192), host("kvm2", memory_mb_used=6144, vcpus_used=126), host("kvm3", memory_mb_used=13000)]
    result = select_destinations(fleet, request(flavor=flavor(ram=8000, vcpus=4)))
    (found,) = [item for item in result["suggestions"] if item["kind"] == "flavor"]
    assert (found["hosts"], found["flavor"]) == (["kvm1"], {"vcpus": 4, "ram": 4096, "disk_mb": 10240})


def test_nothing_is_suggested_when_something_fits():
    assert select_destinations([host("kvm1"), host("kvm2", "az2")], request(availability_zone="az1"))["suggestions"] == []


def test_following_a_suggestion_works():
    fleet = [host("kvm1", memory_mb_used=6144), host("kvm2", "az2")]
    asked = request(flavor=flavor(ram=8000), availability_zone="az1")
    for item in select_destinations(fleet, asked)["suggestions"]:
        changed = {"zone": {"availability_zone": item.get("zone")}, "flavor": {"flavor": flavor(ram=item.get("flavor", {}).get("ram", 1))}}[item["kind"]]
        assert select_destinations(fleet, {**asked, **changed})["selected"] in item["hosts"]
