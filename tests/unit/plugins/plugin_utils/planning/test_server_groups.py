# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Server groups and Nova's hints, as the role hands them to the plan: each reaches the filter or weigher that reads it."""

from __future__ import annotations

import pytest

from .test_migration import DOMAIN, host, plan, planned, refused

WEB2, WEB3 = ({"name": f"web{number}", "uuid": f"i-{number}", "state": "running"} for number in (2, 3))
CLAIM = {"instance_name": "web3", "instance_uuid": "i-3", "role": "destination"}


def fleet(kvm2=(), kvm3=(), **of_kvm3):
    """web1 on kvm1; kvm3 has the most free memory."""
    placed = {"kvm1": [DOMAIN], "kvm2": list(kvm2), "kvm3": list(kvm3)}
    memory = {"kvm1": 8192, "kvm2": 8192, "kvm3": 16384}
    hosts = [host(name, memory_mb=memory[name], domains=guests, instances=[guest["uuid"] for guest in guests]) for name, guests in placed.items()]
    hosts[2].update(of_kvm3)
    return hosts


def group(policy, *members, **more):
    return {"web": {"policy": policy, "members": list(members), **more}}


def moved(groups=None, hosts=None, scheduler=None, **request):
    return planned(migrate=True, hosts=hosts or fleet(), scheduler=scheduler, server_groups=groups, **request)


@pytest.mark.parametrize("members", [["web1", "web3"], ["web*"], ["i-1", "i-3"], ["web[13]"]])
def test_a_guest_stays_apart_from_its_anti_affinity_twin(members):
    assert moved(hosts=fleet(kvm3=[WEB3]))["candidates"][0] == "kvm3"
    assert moved(group("anti-affinity", *members), fleet(kvm3=[WEB3]))["candidates"] == ["kvm2"]


def test_a_member_that_is_on_its_way_counts():
    """It has a claim at its destination, and no definition yet."""
    hosts = fleet(instances=["i-3"], claims=[CLAIM])
    assert moved(group("anti-affinity", "web?"), hosts)["candidates"] == ["kvm2"]


def test_a_member_whose_sealed_copy_waits_counts_at_both_ends():
    hosts = fleet(kvm2=[WEB3], instances=["i-3"], claims=[{**CLAIM, "role": "source"}])
    error = refused(migrate=True, hosts=hosts, server_groups=group("anti-affinity", "web?"))
    assert error["message"].count("ServerGroupAntiAffinityFilter: has 1 members of the server group") == 2


def test_as_many_members_as_a_host_may_have():
    groups = group("anti-affinity", "web*", max_server_per_host=2)
    assert moved(groups, fleet(kvm3=[WEB3]))["candidates"][0] == "kvm3"
    assert moved(groups, fleet(kvm3=[WEB2, WEB3]))["candidates"] == ["kvm2"]


def test_a_guest_joins_its_affinity_group():
    assert moved(group("affinity", "web*"), fleet(kvm2=[WEB2]))["candidates"] == ["kvm2"]


def test_a_soft_group_decides_among_hosts_that_fit():
    assert moved(group("soft-affinity", "web*"), fleet(kvm2=[WEB2]), {"weighers": {"ServerGroupSoftAffinityWeigher": 1.0}})["candidates"][0] == "kvm2"
    assert moved(group("soft-anti-affinity", "web*"), fleet(kvm3=[WEB2]), {"weighers": {"ServerGroupSoftAntiAffinityWeigher": 1.0}})["candidates"][0] == "kvm2"


def test_the_claim_is_told_of_the_group():
    found = moved(group("anti-affinity", "web?"), fleet(kvm3=[WEB3]))
    wanted = {"name": "web", "policy": "anti-affinity", "members": ["i-1", "i-3"], "max_server_per_host": 1}
    assert found["for"]["kvm2"]["requirements"]["server_group"] == wanted
    assert moved(group("anti-affinity", "db*"))["for"]["kvm3"]["requirements"]["server_group"] is None


def test_a_hint_names_the_group():
    assert moved(group("affinity", "db"), fleet(kvm2=[{**WEB2, "name": "db"}]), scheduler_hints={"group": "web"})["candidates"] == ["kvm2"]


@pytest.mark.parametrize(
    ("hints", "candidates"),
    [
        ({"different_host": "web3"}, ["kvm2"]),
        ({"different_host": ["web3", "i-2"]}, []),
        ({"same_host": ["web2"]}, ["kvm2"]),
        ({"query": '["=", "$host", "kvm2"]'}, ["kvm2"]),
    ],
)
def test_a_hint_reaches_its_filter(hints, candidates):
    answer = plan(migrate=True, hosts=fleet([WEB2], [WEB3]), scheduler={"enabled_filters": ["DifferentHostFilter", "SameHostFilter", "JsonFilter"]},
                  scheduler_hints=hints)  # fmt: skip
    assert (answer["plan"] or {"candidates": []})["candidates"] == candidates


def test_tenants_and_images_reach_their_filters():
    aggregate = [{"name": "a", "metadata": {"filter_tenant_id": "blue"}}]
    hosts = fleet(aggregates=aggregate)
    scheduler = {"enabled_filters": ["AggregateMultiTenancyIsolation", "IsolatedHostsFilter"], "isolated_hosts": ["kvm2"], "isolated_images": ["secret"]}
    assert moved(hosts=hosts, scheduler=scheduler, project_id="blue")["candidates"] == ["kvm3"]
    assert moved(hosts=hosts, scheduler=scheduler, image_id="secret")["candidates"] == ["kvm2"]


@pytest.mark.parametrize(
    ("groups", "code", "said"),
    [
        ({"web": {"policy": "apart", "members": ["web1"]}}, "invalid_value", "kvmfleet_server_groups.web.policy: expected one of affinity, anti-affinity"),
        ({"web": {"policy": "affinity", "members": []}}, "invalid_value", "kvmfleet_server_groups.web.members: expected a list of names"),
        ({"web": {"policy": "affinity", "member": ["web1"]}}, "invalid_value", "kvmfleet_server_groups.web.member: expected one of policy, members"),
        ({"web": {"policy": "anti-affinity", "members": ["web1"], "max_server_per_host": 0}}, "invalid_value", "max_server_per_host: expected a whole number"),
        ({"web": ["web1"]}, "invalid_value", "kvmfleet_server_groups.web: expected a mapping with policy and members"),
        (
            {**group("affinity", "web*"), "a": {"policy": "anti-affinity", "members": ["*1"]}},
            "several_server_groups",
            "web1 is a member of 2 server groups, web, a",
        ),
    ],
)
def test_what_is_no_group_is_refused_by_name(groups, code, said):
    error = refused(migrate=True, hosts=fleet(), server_groups=groups)
    assert error["code"] == code
    assert said in error["message"]


def test_a_hint_that_nobody_can_follow_is_refused():
    assert "scheduler_hints.same_host: no host of the fleet has an instance 'wbe2'" in refused(hosts=fleet(), scheduler_hints={"same_host": "wbe2"})["message"]
    assert "scheduler_hints.group: 'x' is not in kvmfleet_server_groups; known: none" in refused(hosts=fleet(), scheduler_hints={"group": "x"})["message"]


def test_a_resize_in_place_stays_beside_nobody_new():
    assert planned(hosts=fleet(kvm3=[WEB3]), server_groups=group("anti-affinity", "web*"))["action"] == "in_place"
