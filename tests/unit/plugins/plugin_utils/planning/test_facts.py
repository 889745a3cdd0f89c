# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Facts that are not what this release writes: the host counts as one that does not answer, whatever else is wrong with them."""

from __future__ import annotations

import contextlib
import copy
import random
from collections.abc import Iterator
from typing import Any

import pytest

from ansible_collections.kvmfleet.compute.plugins.module_utils._rules.errors import KvmfleetError
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.planning.bases import base_sources
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.planning.fleet import Fleet
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.planning.recovery import VERBS, decide
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.planning.status import fleet_status
from ansible_collections.kvmfleet.compute.tests.unit.plugins.plugin_utils.planning.test_lost_host import record

GARBAGE = (None, 7, -1, 1e400, True, "", "text", [], [7], ["text"], {}, {"a": 7}, [{}], [[]])
CAPACITY = {"vcpus": 8, "vcpus_used": 1, "memory_mb": 4096, "memory_mb_used": 512, "local_gb": 9.5, "local_gb_used": 1.0, "num_instances": 1, "now": 2000.0}
PROGRESS = {"percent": 10.0, "bytes_total": 2**30, "rate": 2.0**20, "eta": None}


def host(name: str, **facts: Any) -> dict[str, Any]:
    lists: dict[str, Any] = {"domains": [], "migrations": [], "forced_migrations": [], "bases": ["aa"]}
    return {"host": name, "up": True, "availability_zone": "north", **CAPACITY, **lists, **facts}


def fleet() -> list[dict[str, Any]]:
    """An operation that waits for confirm, one that copies, and one that was ended without its source."""
    waits, copies = {"uuid": "m-1"}, {"uuid": "m-2", "instance_name": "db", "instance_uuid": "i-2", "source_host": "kvm2", "destination_host": "kvm3"}
    ended = {"uuid": "m-3", "instance_name": "old", "instance_uuid": "i-3", "forced": {"lost_host": "kvm1", "at": 1.0}}
    return [
        host("kvm1", migrations=[record("source", "finished", **waits)]),
        host(
            "kvm2",
            domains=[{"name": "web1", "uuid": "i-1", "state": "running"}],
            migrations=[record("destination", "finished", **waits), record("source", "migrating", "sealed", **copies)],
            forced_migrations=[record("destination", "confirmed", **ended)],
        ),
        host("kvm3", migrations=[record("destination", "migrating", "receiving", **copies, progress=PROGRESS)]),
    ]


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every container below, with each of its keys."""
    for key in list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield value, key
        yield from places(value[key])


def decisions(hosts: list[dict[str, Any]], verb: str = "recover") -> dict[str, str]:
    return {decision["migration_uuid"]: decision["action"] for decision in decide(hosts, verb)}


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        ({"migrations": 7}, "migrations: expected a list, got 7"),
        ({"domains": [{"name": "web1", "state": "running"}]}, "domains[0].uuid: expected a string, got nothing"),
        ({"migrations": [record("observer", "finished")]}, "migrations[0].role: expected one of source, destination, in_place"),
        ({"migrations": [record("source", "finnished")]}, "(did you mean 'finished'?)"),
        ({"vcpus": "many"}, "vcpus: expected a number >= 0, got 'many'"),
    ],
)
def test_a_host_whose_facts_cannot_be_read_does_not_answer(damage: dict[str, Any], reason: str) -> None:
    found = Fleet([host("kvm1", **damage), host("kvm2")])
    assert reason in found.down["kvm1"]
    assert list(found.down) == ["kvm1"]


def test_it_is_not_taken_for_lost() -> None:
    hosts = fleet()
    hosts[2]["migrations"][0]["status"] = "unheard of"
    with pytest.raises(KvmfleetError, match="its facts cannot be read"):
        decide(hosts, "recover", lost_host="kvm3")


def test_what_the_host_holds_waits() -> None:
    assert decisions(fleet()) == {"m-1": "none", "m-2": "back", "m-3": "release"}
    hosts = fleet()
    del hosts[2]["migrations"][0]["uuid"]
    assert decisions(hosts)["m-2"] == "wait"


@pytest.mark.parametrize("seed", range(20))
def test_mutated_facts(seed: int) -> None:
    """An answer or a refusal. An operation of a host that cannot be read is not acted upon."""
    chance = random.Random(seed)  # noqa: S311 - no secret
    for _round in range(25):
        hosts = copy.deepcopy(fleet())
        for _change in range(chance.randint(1, 3)):
            container, key = chance.choice([place for place in places(hosts) if place[1] != "host" and place[0] is not hosts])
            container[key] = copy.deepcopy(chance.choice(GARBAGE))
        for verb in VERBS:
            with contextlib.suppress(KvmfleetError):
                down = Fleet(hosts).down
                for decision in decide(hosts, verb):
                    if decision["source"] in down and decision["destination"] in down:
                        assert decision["action"] in ("wait", "none"), decision
        fleet_status(hosts)
        base_sources(hosts, [{"sha256": "aa"}], "kvm1", "kvm2", None)
