# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The filters around a decision: several at once, how many more, and the record for a replay."""

from __future__ import annotations

import json

import pytest
from ansible.errors import AnsibleFilterError

from ansible_collections.kvmfleet.compute.plugins.filter.fleet_capacity import FilterModule as FleetCapacity
from ansible_collections.kvmfleet.compute.plugins.filter.fleet_facts import FilterModule as FleetFacts
from ansible_collections.kvmfleet.compute.plugins.filter.placement_record import FilterModule as PlacementRecord
from ansible_collections.kvmfleet.compute.plugins.filter.select_destinations_batch import FilterModule as Batch
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.replay import Decision
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.select import select_destinations
from ansible_collections.kvmfleet.compute.tests.unit.plugins.plugin_utils.scheduler.fleet import host, request

batch = Batch().filters()["select_destinations_batch"]
capacity = FleetCapacity().filters()["fleet_capacity"]
fleet_facts = FleetFacts().filters()["fleet_facts"]
placement_record = PlacementRecord().filters()["placement_record"]
HOSTS = [host("kvm1"), host("kvm2")]
OPTIONS = {"enabled_filters": ["RamFilter", "CoreFilter", "DiskFilter"], "ram_allocation_ratio": 1.0}


def test_batch() -> None:
    answer = batch(HOSTS, [request(), request()], OPTIONS)
    assert answer["fits"]
    assert answer == json.loads(json.dumps(answer))


def test_capacity() -> None:
    assert capacity(HOSTS, request(), OPTIONS) == {"guests": 16, "zones": {"az1": {"guests": 16, "hosts": 2}}, "hosts": {"kvm1": 8, "kvm2": 8}}


def test_record_can_be_replayed() -> None:
    saved = placement_record(select_destinations(HOSTS, request(), OPTIONS), HOSTS, request(), OPTIONS)
    assert Decision(json.loads(json.dumps(saved))).replay()[1]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: batch(HOSTS, [{"flavor": {}}]), r"select_destinations_batch: requests\[0\]\.flavor\.vcpus: expected a number"),
        (lambda: capacity([{}], request()), r"fleet_capacity: hosts\[0\]\.host: expected a name"),
        (lambda: placement_record({}, HOSTS, request()), "placement_record: 'selected'"),
    ],
)
def test_malformed_input_names_the_field(call, message: str) -> None:
    with pytest.raises(AnsibleFilterError, match=message):
        call()


class Manager:
    """Where ansible-core keeps facts."""

    def __init__(self, gathered: dict[str, dict], written: dict[str, dict]) -> None:
        self._fact_cache = gathered
        self._nonpersistent_fact_cache = written


class HostVars(dict):
    """All variables of each host, and the manager that they come from."""

    _variable_manager: object = None


def facts_of(manager: object, **hostvars: dict) -> list:
    variables = HostVars(hostvars)
    variables._variable_manager = manager
    return fleet_facts(variables, list(hostvars), "some_fact")


def test_fleet_facts_come_from_where_ansible_keeps_them() -> None:
    manager = Manager({"a": {"some_fact": 1}, "b": {"some_fact": 2}}, {"b": {"some_fact": 3}})
    assert facts_of(manager, a={}, b={}, c={"some_fact": 4}, d={}) == [1, 3, 4]


def test_fleet_facts_come_from_hostvars_where_ansible_keeps_them_elsewhere() -> None:
    assert facts_of(None, a={"some_fact": 1}, b={}, c={"some_fact": 2}) == [1, 2]
    assert facts_of(object(), a={"some_fact": 1}) == [1]


def test_the_facts_of_a_host_that_calls_itself_another_one_do_not_count() -> None:
    told = {"host": "kvm1", "up": True, "run": "this one"}
    variables = HostVars({"kvm1": {"kvmfleet_host": told}, "kvm2": {"kvmfleet_host": told}, "kvm3": {"kvmfleet_host": 7}})
    variables._variable_manager = None
    first, *others = fleet_facts(variables, ["kvm1", "kvm2", "kvm3"])
    assert first == told
    assert [(facts["host"], facts["up"]) for facts in others] == [("kvm2", False), ("kvm3", False)]
    assert "its facts are those of 'kvm1'" in others[0]["down_reason"]
    assert [facts.get("run") for facts in others] == ["this one", None], "it was asked in this run, so it does not keep the run from going on without it"
