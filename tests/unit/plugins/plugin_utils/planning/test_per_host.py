# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""`plan.for`: what a plan says of each candidate, by its facts and by what the inventory says of it."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from ansible_collections.kvmfleet.compute.plugins.filter.plan_migration import plan_migration
from ansible_collections.kvmfleet.compute.plugins.module_utils._rules import handed_plan
from ansible_collections.kvmfleet.compute.plugins.module_utils._rules.errors import KvmfleetError
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.planning.per_host import lowest
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.planning.plan import ForHost
from ansible_collections.kvmfleet.compute.tests.unit.plugins.plugin_utils.planning.test_migration import DOMAIN, FLAVORS, domain, host

OURS = {"images_path": "/srv/images", "reserved": {"memory_mb": 512, "vcpus": 0, "disk_mb": 0}}
FACTS = [
    host("kvm1", domains=[DOMAIN], used=768, **OURS),
    host("kvm2", maintenance_told="", cpu_dedicated_set="2-3", **OURS),
    host("kvm3", bases=["ab"], **OURS),
]
NORTH = {"kvmfleet_zone": "north"}
HOSTVARS: dict[str, dict[str, Any]] = {"kvm1": {**NORTH, "ansible_host": "192.0.2.1"}, "kvm2": NORTH, "kvm3": {**NORTH, "ansible_ssh_host": "192.0.2.3"}}
GIVEN = {"image_directories": ["/srv/images"], "bandwidth_limit": 0, "image_store_url": ""}


def answer(given: dict[str, Any] | None = None, flavor: str | None = None, target: str | None = "kvm2", **variables: dict[str, Any]) -> dict[str, Any]:
    """A migration of web1, or a resize of it, with more variables of hosts."""
    where = {"zone": None, "target_host": target, "ignore_hosts": []}
    asked = {"instance": "web1", **where, "allow_resize_to_same_host": True, "allow_downsize": False}
    wanted = flavor and {**FLAVORS[flavor], "name": flavor, "ephemeral": 0, "swap": 0, "extra_specs": {}}
    hostvars = {name: {**known, **variables.get(name, {})} for name, known in HOSTVARS.items()}
    return plan_migration(copy.deepcopy(FACTS), domain(), {**asked, "flavor": wanted}, {}, hostvars, {**GIVEN, **(given or {})})  # type: ignore[arg-type]


def planned(**more: Any) -> dict[str, Any]:
    told = answer(**more)
    assert told["error"] is None, told["error"]
    return dict(told["plan"])


def at_kvm2(**more: Any) -> dict[str, Any]:
    return dict(planned(**more)["for"]["kvm2"])


def test_facts_of_a_candidate_are_its_own() -> None:
    there = at_kvm2()
    assert (there["images_path"], there["reserved"], there["cpu_dedicated_set"]) == ("/srv/images", OURS["reserved"], "2-3")


@pytest.mark.parametrize(
    ("variables", "address"),
    [
        ({}, "192.0.2.1"),
        ({"kvmfleet_migration_address": "198.51.100.1"}, "198.51.100.1"),
        ({"kvmfleet_migration_address": " "}, "192.0.2.1"),
        ({"ansible_host": "", "ansible_ssh_host": "203.0.113.1"}, "203.0.113.1"),
        ({"ansible_host": None}, "kvm1"),
    ],
)
def test_the_address_of_the_source_is_what_the_inventory_says(variables: dict[str, Any], address: str) -> None:
    assert at_kvm2(kvm1=variables)["source_address"] == address


@pytest.mark.parametrize(("limits", "limit"), [((0, 0, 0), 0), ((300, 0, 0), 300), ((300, "100", 0), 100), ((0, 0, "50"), 50), ((10, 20, 30), 10)])
def test_the_lowest_limit_counts_and_zero_is_none(limits: tuple[Any, Any, Any], limit: int) -> None:
    move, source, destination = limits
    known = {"kvm1": {"kvmfleet_migration_bandwidth_limit": source}, "kvm2": {"kvmfleet_migration_bandwidth_limit": destination}}
    assert at_kvm2(given={"bandwidth_limit": move}, **known)["bandwidth_limit"] == limit
    assert lowest() == 0


def test_directories_are_those_of_the_fleet_and_those_of_the_host() -> None:
    found = planned(kvm2={"kvmfleet_disk_directories": {"fast": "/srv/fast", "images": "/srv/images"}}, kvm1={"kvmfleet_disk_directories": {"old": "/srv/old"}})
    assert found["for"]["kvm2"]["image_directories"] == ["/srv/images", "/srv/fast"]
    assert found["at_source"] == {"image_directories": ["/srv/images", "/srv/old"], "max_moves": 2}


def test_moves_in_hand_are_counted_by_the_numbers_of_either_end() -> None:
    found = planned(kvm1={"kvmfleet_max_moves_out": "7"}, kvm2={"kvmfleet_max_moves_in": 0, "kvmfleet_migration_peer": "198.51.100.2"})
    assert (found["at_source"]["max_moves"], found["for"]["kvm2"]["max_moves"], found["for"]["kvm2"]["peer"]) == (7, 0, "198.51.100.2")


@pytest.mark.parametrize(
    ("variables", "outdated"),
    [
        ({}, []),
        ({"kvmfleet_zone": "south"}, ["kvmfleet_zone"]),
        ({"kvmfleet_enabled": "no", "kvmfleet_maintenance": "new disks"}, ["kvmfleet_enabled", "kvmfleet_maintenance"]),
    ],
)
def test_a_candidate_that_the_inventory_knows_otherwise_by_now_is_told(variables: dict[str, Any], outdated: list[str]) -> None:
    assert at_kvm2(kvm2=variables)["outdated"] == outdated


def test_each_source_of_a_base_image_comes_with_what_its_channel_needs() -> None:
    given = {"image_store_url": "https://images.example.com/base?token=x", "bandwidth_limit": 80}
    found = at_kvm2(given=given, kvm3={"kvmfleet_migration_bandwidth_limit": 40}, kvm2={"kvmfleet_migration_bandwidth_limit": 60})["base_sources"]
    assert [(one["kind"], one["name"], one["address"], one["bandwidth_limit"]) for one in found] == [
        ("sibling", "kvm3", "192.0.2.3", 40),
        ("store", "https://images.example.com/base", None, 60),
        ("source", "kvm1", "192.0.2.1", 60),
    ]
    assert {one["base"]["sha256"] for one in found} == {"ab"}


def test_in_place_nothing_is_said_of_a_way_to_the_source() -> None:
    found = planned(flavor="large", target=None)
    assert (found["action"], set(found["for"])) == ("in_place", {"kvm1"})
    assert not {"source_address", "base_sources", "max_moves", "bandwidth_limit"} & set(found["for"]["kvm1"])
    assert found["for"]["kvm1"]["image_directories"] == ["/srv/images"]


def test_a_variable_that_cannot_be_is_refused_with_its_host() -> None:
    told = answer(kvm2={"kvmfleet_migration_bandwidth_limit": "fast"})
    assert told["plan"] is None
    assert (told["error"]["code"], told["error"]["message"][:43]) == ("invalid_value", "kvm2: kvmfleet_migration_bandwidth_limit: e")


def test_without_variables_a_plan_says_what_was_decided_alone() -> None:
    request = {"instance": "web1", "flavor": None, "zone": None, "target_host": "kvm2", "ignore_hosts": []}
    request = {**request, "allow_resize_to_same_host": False, "allow_downsize": False}
    found = plan_migration(copy.deepcopy(FACTS), domain(), request)["plan"]  # type: ignore[arg-type]
    assert set(found["for"]["kvm2"]) == {"ratios", "storage", "mappings", "requirements", "precopy"}
    assert found["at_source"] is None


# What a host takes of it.


@pytest.mark.parametrize("action", ["move", "in_place"])
def test_a_host_takes_what_a_plan_says_of_it(action: str) -> None:
    found = planned() if action == "move" else planned(flavor="large", target=None)
    name = found["candidates"][0]
    assert handed_plan.here({"record": found["record"], "for": found["for"]}, name) == found["for"][name]
    assert set(found["for"][name]) <= set(handed_plan.HERE) == set(ForHost.__annotations__)


def test_what_a_plan_says_of_other_hosts_is_nothing_to_a_host() -> None:
    found = planned(target=None)
    assert len(found["for"]) > 1
    for name in found["for"]:
        assert handed_plan.here({"record": found["record"], "for": found["for"]}, name) == found["for"][name]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"ratios": {"cpu": 0, "ram": 1.0, "disk": 1.0}}, "plan.for.kvm2.ratios.cpu"),
        ({"images_path": "images"}, "plan.for.kvm2.images_path"),
        ({"image_directories": "/srv/images"}, "plan.for.kvm2.image_directories"),
        ({"reserved": {"memory_mb": "much"}}, "plan.for.kvm2.reserved.memory_mb"),
        ({"storage": [{"target": "../vda"}]}, "plan.for.kvm2.storage[0].target"),
        ({"more": 1}, "plan.for.kvm2.more"),
    ],
)
def test_a_host_refuses_what_a_plan_cannot_say_of_it(change: dict[str, Any], field: str) -> None:
    handed = {"record": {}, "for": {"kvm2": {**at_kvm2(), **change}}}
    with pytest.raises(KvmfleetError, match=r"expected") as told:
        handed_plan.here(handed, "kvm2")
    assert (told.value.code, told.value.details["field"]) == ("handed_value", field)


def test_a_host_refuses_a_plan_that_says_nothing_of_it() -> None:
    with pytest.raises(KvmfleetError, match=r"plan\.for\.kvm9: expected a value"):
        handed_plan.here({"record": {}, "for": {}}, "kvm9")
    with pytest.raises(KvmfleetError, match="plan.placement: expected a field that this release knows"):
        handed_plan.here({"record": {}, "for": {}, "placement": None}, "kvm2")
