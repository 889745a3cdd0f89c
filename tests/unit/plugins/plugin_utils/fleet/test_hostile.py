# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Facts, descriptions and options that are not what they should be: the answer is an error or a programme, never a traceback."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Iterator
from typing import Any

import pytest

from ansible_collections.kvmfleet.compute.plugins.filter.plan_drain import plan_drain
from ansible_collections.kvmfleet.compute.plugins.filter.plan_restore import plan_restore
from ansible_collections.kvmfleet.compute.tests.unit.plugins.plugin_utils.fleet.fleets import SCHEDULER, Made, host, uuid_of

GARBAGE = (None, 7, -1, True, "", "text", [], [7], ["text"], {}, {"a": 7}, [{}], [[]])
OPTIONS = {
    "server_groups": {"web": {"policy": "anti-affinity", "members": ["web*"], "max_unavailable": 1}},
    "policies": {"web*": {"policy": "move", "priority": 1, "after": ["db1"], "window": "00:00-24:00", "max_downtime": 9, "approval": True}},
    "host_policies": {"kvm1": {"db1": "stop"}},
    "approve": ["web*"],
    "downtimes": {uuid_of("web1"): 3},
    "eject": True,
}


def fleet() -> Made:
    made = Made(*(host(f"kvm{number}", 8) for number in range(1, 5)))
    made.guest("kvm1", "web1").guest("kvm1", "db1").guest("kvm1", "vm1", running=False, entry={"policy": {"priority": 2}})
    made.guest("kvm2", "web2", entry={"origin": {"host": "kvm1", "drain": "d", "at": "now"}}).guest("kvm3", "vm2").guest("kvm4", "vm3")
    made.operation("vm2", "kvm1", "kvm3").operation("vm3", "kvm4", "kvm2", "migrating", "sealed")
    noted = {uuid_of("vm3"): {"instance": "vm3", "class": "move", "destination": "kvm2", "order": 1, "power_state": "running"}}
    made.host("kvm4")["maintenance"] = {"uuid": "d", "state": "draining", "reason": "disk", "by": "ann", "guests": noted}
    made.host("kvm2")["origins"] = {uuid_of("web2"): {"host": "kvm1"}}
    return made


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every container below, with each of its keys."""
    for key in list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield value, key
        yield from places(value[key])


@pytest.mark.parametrize("seed", range(6))
def test_whatever_is_told_there_is_an_answer(seed: int) -> None:
    draw = random.Random(seed)  # noqa: S311
    made = fleet()
    told = {"facts": made.facts, "described": [{"host": name, "guests": guests} for name, guests in made.described.items()], "options": OPTIONS}
    number = sum(1 for _place in places(told))
    for _again in range(25):
        spoilt = copy.deepcopy(told)
        container, key = list(places(spoilt))[draw.randrange(number)]
        if container in (spoilt, spoilt["facts"]) or key in ("host", "run"):  # which Ansible itself says
            continue
        container[key] = draw.choice(GARBAGE)
        for answer in (
            plan_drain(spoilt["facts"], ["kvm1"], spoilt["described"], spoilt["options"], SCHEDULER),
            plan_restore(spoilt["facts"], "kvm1", spoilt["described"], "all", spoilt["options"], SCHEDULER),
        ):
            assert json.loads(json.dumps(answer)) == answer
            assert (answer["error"] is None) == bool(answer["lines"])


def test_the_fleet_that_is_spoilt_is_a_good_one() -> None:
    made = fleet()
    assert made.plan(**OPTIONS)["error"] is None
    assert made.restore(**OPTIONS)["error"] is None
