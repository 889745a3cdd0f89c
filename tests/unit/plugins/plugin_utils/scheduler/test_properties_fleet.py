# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Properties of what the preset `fleet` adds, of Placement's rule and of suggestions."""

from __future__ import annotations

from fractions import Fraction

from hypothesis import given, settings, strategies as st

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.select import select_destinations
from ansible_collections.kvmfleet.compute.tests.unit.plugins.plugin_utils.scheduler.fleet import flavor, host, request

mostly = st.sampled_from((True, True, True, False))
names = st.lists(st.sampled_from(["a", "b", "c"]), unique=True, max_size=3)
states = st.builds(
    dict,
    availability_zone=st.sampled_from(("az1", "az2")),
    enabled=mostly,
    maintenance=st.sampled_from((None, None, None, "new disks")),
    memory_mb_used=st.integers(512, 20000),
    reserved=st.builds(dict, memory_mb=st.integers(0, 512)),
    ram_allocation_ratio=st.sampled_from((None, 1, 2.5)),
    machine_types=names,
    networks=names,
    bases=names,
    instances=names,
    disk_free_mb=st.integers(0, 40),
    cgroup_version=st.sampled_from((None, 1, 2)),
    domains=st.lists(
        st.builds(dict, name=st.sampled_from(("web1", "db1")), uuid=st.just("u"), vcpus=st.just(1), memory_mb=st.integers(1, 9999)),
        max_size=2,
        unique_by=lambda guest: guest["name"],
    ),
)
fleets = st.lists(states, min_size=1, max_size=8).map(
    lambda items: [host(f"kvm{index}", state.pop("availability_zone"), **state) for index, state in enumerate(items)]
)
asked_for = st.builds(
    request,
    flavor=st.builds(flavor, ram=st.integers(1, 9000), vcpus=st.just(1), disk=st.just(1)),
    availability_zone=st.sampled_from(("any", "az1")),
    target_host=st.sampled_from((None, None, "kvm0")),
    ignore_hosts=st.lists(st.sampled_from(("kvm0", "kvm1")), max_size=1),
    server_group=st.builds(dict, policy=st.sampled_from(("anti-affinity", "affinity", "soft-affinity")), members=names, max_server_per_host=st.integers(1, 2)),
    requirements=st.builds(
        dict,
        machine=st.sampled_from((None, "a", "b")),
        networks=names,
        cpu_shares=st.sampled_from((None, 1, 10001)),
        overlay_bytes=st.integers(0, 30 * 2**20),
        bases=names.map(lambda found: [{"sha256": name, "size_bytes": 10 * 2**20} for name in found]),
    ),
)


def fits(state, fleet, asked, rule):
    """The rules once more, in whole numbers and another form."""
    needed, group, ram = asked["requirements"], asked["server_group"], asked["flavor"]["ram"]
    ratio, reserved = Fraction(str(state.get("ram_allocation_ratio") or "1.5")), state["reserved"]["memory_mb"]
    promised = state["memory_mb_used"] - reserved
    limit = 8192 * ratio - reserved if rule == "ram_filter" else (8192 - reserved) * ratio
    members = {item["host"] for item in fleet if set(group["members"]) & set(item["instances"])}
    here = len(set(group["members"]) & set(state["instances"]))
    fetched = sum(base["size_bytes"] for base in needed["bases"] if base["sha256"] not in state["bases"])
    low, high = {1: (2, 262144), 2: (1, 10000)}.get(state.get("cgroup_version"), (0, 10**9))
    return all(
        (
            state["enabled"] and not state.get("maintenance"),
            asked["availability_zone"] in ("any", state["availability_zone"]),
            asked["target_host"] in (None, state["host"]),
            state["host"] not in asked["ignore_hosts"],
            ram <= 8192 and promised + ram <= limit,
            group["policy"] != "anti-affinity" or here < group["max_server_per_host"],
            group["policy"] != "affinity" or not members or state["host"] in members,
            needed["machine"] is None or not state["machine_types"] or needed["machine"] in state["machine_types"],
            set(needed["networks"]) <= set(state["networks"]),
            needed["cpu_shares"] is None or low <= needed["cpu_shares"] <= high,
            needed["overlay_bytes"] + fetched <= state["disk_free_mb"] * 2**20,
            all(domain["name"] != "web1" for domain in state["domains"]),
        )
    )


@settings(max_examples=400, deadline=None)
@given(fleets, asked_for, st.sampled_from(("ram_filter", "placement")))
def test_exactly_the_hosts_that_fit_are_ranked(fleet, asked, rule):
    result = select_destinations(fleet, asked, {"reserved_rule": rule})
    assert {item["host"] for item in result["ranked"]} == {state["host"] for state in fleet if fits(state, fleet, asked, rule)}
    assert {item["host"] for item in result["ranked"]} | set(result["rejected"]) == {state["host"] for state in fleet}


@settings(max_examples=300, deadline=None)
@given(fleets, asked_for)
def test_a_suggestion_that_is_followed_makes_its_hosts_fit(fleet, asked):
    for item in select_destinations(fleet, asked)["suggestions"]:
        changes, states = {}, fleet
        if item["kind"] == "zone":
            changes = {"availability_zone": item["zone"]}
        elif item["kind"] == "not_target_host":
            changes = {"target_host": None}
        elif item["kind"] == "ignored_host":
            changes = {"ignore_hosts": []}
        elif item["kind"] == "flavor":
            changes = {"flavor": flavor(vcpus=1, ram=item["flavor"]["ram"], disk=1)}
        elif item["kind"] in ("disabled", "maintenance"):
            states = [{**state, "enabled": True, "maintenance": None} if state["host"] in item["hosts"] else state for state in fleet]
        else:
            assert item["kind"] == "drain"
            (gone,) = [guest for state in fleet if state["host"] in item["hosts"] for guest in state["domains"] if guest["name"] == item["guest"]][:1]
            states = [
                {**state, "memory_mb_used": max(0, state["memory_mb_used"] - gone["memory_mb"])} if state["host"] in item["hosts"] else state for state in fleet
            ]
        ranked = {found["host"] for found in select_destinations(states, {**asked, **changes})["ranked"]}
        assert set(item["hosts"]) <= ranked, item
