# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.batch import place_together
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.capacity import count_fitting
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.select import select_destinations
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.validation import ValidationError
from ansible_collections.kvmfleet.compute.tests.unit.plugins.plugin_utils.scheduler.fleet import flavor, host

OPTIONS = {
    "enabled_filters": ["AvailabilityZoneFilter", "RamFilter", "CoreFilter", "DiskFilter"],
    "weighers": {"RAMWeigher": 1.0},
    "cpu_allocation_ratio": 2.0,
    "ram_allocation_ratio": 1.5,
}


def asked(name: str = "web1", source: str | None = None, **changes: Any) -> dict[str, Any]:
    return {"instance": {"name": name, "host": source}, "flavor": flavor(**changes), "availability_zone": "any", "allow_resize_to_same_host": False}


def test_each_sees_the_claims_of_those_before() -> None:
    hosts = [host("a", memory_mb=4096), host("b", memory_mb=4096)]
    answer = place_together(hosts, [asked(f"web{index}", ram=4096) for index in range(2)], {**OPTIONS, "ram_allocation_ratio": 1.0})
    assert answer["fits"]
    assert [item["selected"] for item in answer["placements"]] == ["a", "b"]
    assert answer["usage"]["a"] == {"vcpus_used": 1, "memory_mb_used": 4096, "local_gb_used": 10.0}
    assert answer["message"] == "All 2 guests fit together, on 2 hosts."


def test_names_those_that_do_not_fit() -> None:
    answer = place_together([host(memory_mb=4096)], [asked("small", ram=1024), asked("large", ram=4096)], {**OPTIONS, "ram_allocation_ratio": 1.0})
    assert not answer["fits"]
    assert [item["instance"] for item in answer["placements"]] == ["large"]
    assert [(item["index"], item["instance"], list(item["rejected"])) for item in answer["unplaced"]] == [(0, "small", ["kvm1"])]
    assert answer["message"].startswith("1 of 2 guests find no room beside the others; 1 fit.\nsmall (1 vCPUs")


def test_tries_those_without_room_before_the_others() -> None:
    """The larger guest takes the only host that the smaller one may go to, unless the smaller one goes first."""
    hosts = [host("a", memory_mb=8192), host("b", memory_mb=6144)]
    bound = {**asked("bound", ram=5120), "target_host": "a"}
    answer = place_together(hosts, [asked("free", ram=6144), bound], {**OPTIONS, "ram_allocation_ratio": 1.0})
    assert {item["instance"]: item["selected"] for item in answer["placements"]} == {"bound": "a", "free": "b"}


def test_a_resize_in_place_gives_back_the_old_flavor() -> None:
    request = {"instance": {"name": "web1", "host": "kvm1", "flavor": flavor(ram=3072)}, "flavor": flavor(ram=4096), "allow_resize_to_same_host": True}
    answer = place_together([host(memory_mb=4096, memory_mb_used=3072, vcpus_used=1, local_gb_used=10)], [request], {**OPTIONS, "ram_allocation_ratio": 1.0})
    assert answer["usage"] == {"kvm1": {"vcpus_used": 1, "memory_mb_used": 4096, "local_gb_used": 10.0}}


@pytest.mark.parametrize(("requests", "field"), [([{}], "requests[0].flavor"), ([asked(), asked(ram="much")], "requests[1].flavor.ram"), ({}, "requests")])
def test_malformed_request_names_itself(requests: object, field: str) -> None:
    with pytest.raises(ValidationError) as caught:
        place_together([host()], requests, OPTIONS)
    assert caught.value.field == field


numbers = st.integers(0, 20)
hosts = st.lists(
    st.builds(
        lambda vcpus, ram, disk, used, least: {
            "vcpus": vcpus,
            "memory_mb": ram * 1024,
            "local_gb": disk * 10,
            "vcpus_used": used,
            "memory_mb_used": used * 256,
            "local_gb_used": used * 2,
            "disk_available_least": least,
        },
        st.integers(1, 16),
        st.integers(1, 32),
        st.integers(1, 40),
        numbers,
        st.none() | st.integers(-10, 300),
    ),
    min_size=1,
    max_size=6,
)
requests = st.lists(
    st.builds(lambda vcpus, ram, disk, swap: asked(vcpus=vcpus, ram=ram * 512, disk=disk, swap=swap), st.integers(1, 8), st.integers(1, 16), numbers, numbers),
    max_size=12,
)


@settings(max_examples=300, deadline=None)
@given(hosts, requests)
def test_never_overcommits(states: list[dict[str, Any]], wanted: list[dict[str, Any]]) -> None:
    fleet = {f"kvm{index}": {"host": f"kvm{index}", **state} for index, state in enumerate(states)}
    answer = place_together(list(fleet.values()), wanted, OPTIONS)
    assert sorted(item["index"] for item in (*answer["placements"], *answer["unplaced"])) == list(range(len(wanted)))
    assert answer["fits"] == (not answer["unplaced"])
    for name in {item["selected"] for item in answer["placements"]}:
        state, flavors = fleet[name], [wanted[item["index"]]["flavor"] for item in answer["placements"] if item["selected"] == name]
        disk_gb = sum(item["disk"] + item["swap"] / 1024 for item in flavors)
        assert state["vcpus_used"] + sum(item["vcpus"] for item in flavors) <= 2 * state["vcpus"]
        assert state["memory_mb_used"] + sum(item["ram"] for item in flavors) <= 1.5 * state["memory_mb"]
        assert state["local_gb_used"] + disk_gb <= state["local_gb"]
        assert state["disk_available_least"] is None or disk_gb <= state["disk_available_least"]


def test_counts_guests_for_each_zone() -> None:
    fleet = [host("a", "az1"), host("b", "az1", memory_mb_used=8192), host("c", "az2", vcpus=1), host("d", "az3", enabled=False)]
    answer = count_fitting(fleet, asked("web1", "a", ram=2048), OPTIONS)
    assert answer == {
        "guests": 10,
        "zones": {"az1": {"guests": 8, "hosts": 2}, "az2": {"guests": 2, "hosts": 1}, "az3": {"guests": 0, "hosts": 0}},
        "hosts": {"a": 6, "b": 2, "c": 2},
    }


def test_counts_in_the_zone_that_is_asked_for() -> None:
    answer = count_fitting([host("a", "az1"), host("b", "az2")], {**asked(), "availability_zone": "az2"}, OPTIONS)
    assert answer["hosts"] == {"b": 10}


@settings(max_examples=100, deadline=None)
@given(hosts, st.integers(1, 4), st.integers(1, 8), st.integers(0, 20))
def test_the_count_is_what_placing_one_by_one_finds(states: list[dict[str, Any]], vcpus: int, ram: int, disk: int) -> None:
    request = asked(vcpus=vcpus, ram=ram * 512, disk=disk)
    state = {"host": "kvm0", **states[0]}
    count = count_fitting([state], request, OPTIONS)["guests"]
    assert place_together([state], [request] * count, OPTIONS)["fits"]
    assert select_destinations([state], request, OPTIONS)["selected"] == ("kvm0" if count else None)
    assert not place_together([state], [request] * (count + 1), OPTIONS)["fits"]


def test_each_sees_the_bytes_that_those_before_will_bring() -> None:
    gib = 2**30
    wanted = {**asked(disk=1), "requirements": {"overlay_bytes": 3 * gib}}
    options = {**OPTIONS, "enabled_filters": ["DiskSpaceFilter"]}
    answer = place_together([host(disk_free_mb=8192)], [wanted, wanted, wanted], options)
    assert [len(answer["placements"]), len(answer["unplaced"])] == [2, 1]
