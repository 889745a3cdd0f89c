# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Drains that are refused, interrupted, or have others beside them; the guests are off, since their inside is not the subject."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.faults import QUICK, eventually
from support.fleet import Fleet
from support.guest import Guest, Guests
from support.lab import STATE, Lab

pytestmark = [pytest.mark.whole_fleet, pytest.mark.timeout(900)]

DIMM = {"host": "kvm1", "reason": "new memory", **QUICK}


@pytest.fixture
def three(lab: Lab, guests: Guests, fleet: Fleet) -> Iterator[list[Guest]]:
    """Three guests on kvm1, which kvm2 to kvm4 may take; afterwards every operation has ended and every host is open."""
    for host in fleet.hosts.values():
        host["kvmfleet_zone"] = "north"
    made = [guests.create(f"off{number}", "kvm1", start=False) for number in (1, 2, 3)]
    yield made
    fleet.play("recover", **QUICK)
    for guest in made:
        fleet.play("confirm", instance=guest.name, **QUICK)
    for host in fleet.hosts:
        if record(lab, host).get("state", "in_service") != "in_service":
            fleet.play("restore", host=host, **QUICK).ok()


def record(lab: Lab, host: str) -> dict[str, Any]:
    """What the host itself says of its maintenance; empty where it never had any."""
    path = f"{STATE}/host/maintenance.json"
    return json.loads(lab[host].run("cat", path)) if lab[host].exists(path) else {}


@pytest.mark.slow
def test_a_drain_for_which_there_is_no_room_changes_nothing_and_names_every_guest(lab: Lab, three: list[Guest], fleet: Fleet) -> None:
    for host in ("kvm2", "kvm3", "kvm4"):
        fleet.free_memory(host, 300 if host == "kvm2" else 0)
    before = lab.snapshot()
    error = fleet.play("drain", **DIMM).refused()
    assert "kvm1 cannot be drained; nothing was changed." in error
    assert "1 finds room together, 2 do not" in error
    assert sum(guest.name in error for guest in three) == 2
    assert lab.snapshot() == before
    assert record(lab, "kvm1") == {}


@pytest.mark.slow
def test_a_drain_whose_controller_dies_is_ended_by_the_same_command_from_another_one(lab: Lab, three: list[Guest], fleet: Fleet, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = Fleet(lab, tmp_path / "other")
    other.hosts, other.vars = fleet.hosts, fleet.vars
    first = fleet.start("drain", **DIMM)
    eventually(lambda: any(one["status"] == "migrating" for one in lab["kvm1"].records()), "a guest to be under way", 240)
    first.kill()
    assert record(lab, "kvm1")["state"] == "draining"

    told = other.start("drain", **DIMM).wait(600).ok().stats["kvmfleet_fleet"]
    assert told["state"] == record(lab, "kvm1")["state"] == "evacuated"
    assert [len(guest.hosts) for guest in three] == [1, 1, 1]
    assert "kvm1" not in {guest.host.name for guest in three}
    finished = [one["instance_name"] for one in lab["kvm1"].records() if one["status"] == "finished"]
    assert sorted(finished) == [guest.name for guest in three]


@pytest.mark.slow
def test_a_drain_and_a_single_move_beside_it_both_end(lab: Lab, three: list[Guest], guests: Guests, fleet: Fleet) -> None:
    beside = guests.create("beside", "kvm2", start=False)
    drain = fleet.start("drain", **DIMM)
    single = fleet.start("migrate", instance="beside", target_host="kvm3", **QUICK)
    assert single.wait(600).ok().migration["destination"] == "kvm3"
    assert drain.wait(600).ok().stats["kvmfleet_fleet"]["state"] == "evacuated"
    assert beside.hosts == ["kvm3"]
    fleet.play("confirm", instance="beside", **QUICK).ok()
    assert "kvm1" not in {guest.host.name for guest in three}


@pytest.mark.slow
def test_a_paused_drain_begins_nothing_and_goes_on_when_it_is_asked_again(lab: Lab, three: list[Guest], fleet: Fleet) -> None:
    first = fleet.start("drain", parallel=1, **DIMM)
    eventually(lambda: any(one["status"] in ("pre-migrating", "migrating") for one in lab["kvm1"].records()), "a guest to be under way", 240)
    fleet.play("drain", pause=True, **DIMM).ok()
    ended = first.wait(600)
    assert ended.rc != 0
    assert record(lab, "kvm1")["state"] == "paused"
    left = [guest for guest in three if guest.hosts == ["kvm1"]]
    assert left
    assert fleet.play("drain", **DIMM).ok().stats["kvmfleet_fleet"]["state"] == "evacuated"
    assert "kvm1" not in {guest.host.name for guest in three}
