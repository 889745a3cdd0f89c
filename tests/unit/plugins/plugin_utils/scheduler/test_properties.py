# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from fractions import Fraction

from hypothesis import assume, given, settings, strategies as st

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.select import select_destinations
from ansible_collections.kvmfleet.compute.tests.unit.plugins.plugin_utils.scheduler.fleet import flavor, host, request

ZONES = ("az1", "az2", None)
RATIOS = (None, 1, 1.5, 2.25, "4.0")

mostly = st.sampled_from((True, True, True, True, False))
states = st.builds(
    dict,
    availability_zone=st.sampled_from(ZONES),
    enabled=mostly,
    up=mostly,
    vcpus=st.integers(1, 64),
    vcpus_used=st.integers(0, 128),
    memory_mb=st.integers(4096, 65536),
    memory_mb_used=st.integers(0, 65536),
    local_gb=st.integers(50, 500),
    local_gb_used=st.integers(0, 200),
    disk_available_least=st.none() | st.integers(-10, 500),
    ram_allocation_ratio=st.sampled_from(RATIOS),
    num_io_ops=st.integers(0, 8),
)
fleets = st.lists(states, min_size=1, max_size=12).map(lambda items: [{"host": f"kvm{index}", **state} for index, state in enumerate(items)])
flavors = st.builds(flavor, vcpus=st.integers(1, 8), ram=st.integers(1, 8192), disk=st.integers(0, 100))
zones = st.sampled_from(("any", "az1", "nova", None))


@st.composite
def requests(draw, size):
    current = draw(st.none() | st.integers(0, size - 1))
    return request(
        None if current is None else f"kvm{current}",
        flavor=draw(flavors),
        availability_zone=draw(zones),
        allow_resize_to_same_host=draw(st.booleans()),
        ignore_hosts=draw(st.lists(st.sampled_from(["kvm0", "kvm1", "kvm2"]), max_size=2)),
    )


cases = fleets.flatmap(lambda fleet: st.tuples(st.just(fleet), requests(len(fleet))))


def fits(state, fleet, asked):
    """The rules once more, in whole numbers and another form."""
    size, current = asked["flavor"], asked["instance"]["host"]
    zone = asked["availability_zone"]
    if zone is None and current is not None:
        zone = next(item["availability_zone"] or "nova" for item in fleet if item["host"] == current)
    free_disk = min(state["local_gb"] - state["local_gb_used"], *([] if state["disk_available_least"] is None else [state["disk_available_least"]]), 10**9)
    return all(
        (
            state["enabled"] and state["up"],
            state["host"] not in asked["ignore_hosts"],
            state["host"] != current or asked["allow_resize_to_same_host"],
            zone in (None, "any", state["availability_zone"] or "nova"),
            size["ram"] <= state["memory_mb"],
            size["ram"] + state["memory_mb_used"] <= state["memory_mb"] * Fraction(str(state["ram_allocation_ratio"] or "1.5")),
            size["vcpus"] <= state["vcpus"],
            size["vcpus"] + state["vcpus_used"] <= 16 * state["vcpus"],
            size["disk"] <= state["local_gb"],
            size["disk"] <= free_disk,
            state["num_io_ops"] <= 7,
        )
    )


@settings(max_examples=300, deadline=None)
@given(cases)
def test_exactly_the_hosts_that_fit_are_ranked(case):
    fleet, asked = case
    result = select_destinations(fleet, asked)
    assert {item["host"] for item in result["ranked"]} == {state["host"] for state in fleet if fits(state, fleet, asked)}
    assert {item["host"] for item in result["ranked"]} | set(result["rejected"]) == {state["host"] for state in fleet}
    assert all(result["rejected"].values())
    assert result["selected"] == (result["ranked"][0]["host"] if result["ranked"] else None)


@settings(max_examples=200, deadline=None)
@given(cases, st.randoms(use_true_random=False))
def test_permuting_the_hosts_changes_nothing_but_ties(case, random):
    fleet, asked = case
    shuffled = random.sample(fleet, len(fleet))
    one, other = select_destinations(fleet, asked), select_destinations(shuffled, asked)
    assert one["rejected"] == other["rejected"]
    assert [item["weight"] for item in one["ranked"]] == [item["weight"] for item in other["ranked"]]
    assert {item["host"]: item for item in one["ranked"]} == {item["host"]: item for item in other["ranked"]}


@settings(max_examples=200, deadline=None)
@given(cases, st.data())
def test_adding_memory_never_lowers_a_rank(case, data):
    fleet, asked = case
    asked = {**asked, "availability_zone": "any", "ignore_hosts": []}
    before = [item["host"] for item in select_destinations(fleet, asked)["ranked"]]
    assume(before)
    name = data.draw(st.sampled_from(before))
    more = data.draw(st.integers(1, 65536))
    grown = [{**state, "memory_mb": state["memory_mb"] + more} if state["host"] == name else state for state in fleet]
    after = [item["host"] for item in select_destinations(grown, asked)["ranked"]]
    assert after.index(name) <= before.index(name)


@settings(max_examples=300, deadline=None)
@given(total=st.integers(1, 2**40), used=st.integers(0, 2**41))
def test_the_boundary_of_one_and_a_half_is_exact(total, used):
    room = min(total, total * 3 // 2 - used)
    assume(room >= 1)

    def selected(ram):
        return select_destinations([host(memory_mb=total, memory_mb_used=used)], request(flavor=flavor(ram=ram)))["selected"]

    assert selected(room) == "kvm1"
    assert selected(room + 1) is None
