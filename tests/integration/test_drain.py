# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Empty a host for its maintenance, and bring back what was there."""

from __future__ import annotations

import json
from typing import Any

import pytest
from support.faults import QUICK, Subject
from support.fleet import Fleet, Run
from support.guest import Guests
from support.lab import STATE, Host, Lab

pytestmark = pytest.mark.whole_fleet

DIMM = {"host": "kvm1", "reason": "new memory", **QUICK}


def record(host: Host) -> dict[str, Any]:
    """What the host itself says of its maintenance."""
    return json.loads(host.run("cat", f"{STATE}/host/maintenance.json"))


def one_zone(fleet: Fleet) -> None:
    for host in fleet.hosts.values():
        host["kvmfleet_zone"] = "north"


def lines_of_guests(run: Run) -> list[str]:
    """Those that say that a move begins or ends."""
    return [line.strip() for line in run.output.splitlines() if line.strip().startswith("[") and "running," in line]


@pytest.mark.timeout(600)
def test_a_host_is_emptied_for_new_memory_and_all_come_back(lab: Lab, guests: Guests, fleet: Fleet) -> None:
    """Two guests run, one is off; two other hosts take them."""
    one_zone(fleet)
    fleet.hosts["kvm4"]["kvmfleet_enabled"] = False
    subjects = {}
    for name in ("web1", "web2"):
        guest = guests.create(name, "kvm1")
        subjects[name] = Subject(lab, guest, guest.write())
    off = guests.create("db1", "kvm1", start=False)
    other = guests.create("other", "kvm2", start=False)

    foreseen = fleet.play("drain", "--check", **DIMM).ok()
    assert not lab["kvm1"].exists(f"{STATE}/host/maintenance.json")
    assert {move["instance"]: move["downtime"] for move in foreseen.stats["kvmfleet_fleet"]["moves"]} == {"web1": "running", "web2": "running", "db1": "off"}

    drained = fleet.play("drain", **DIMM).ok()
    told = drained.stats["kvmfleet_fleet"]
    assert (told["state"], told["complete"], told["totals"]["moved"]) == ("evacuated", True, 3)
    assert record(lab["kvm1"])["state"] == "evacuated"
    assert lab["kvm1"].domains == []
    assert {subject.runs_once_with_its_data() for subject in subjects.values()} <= {"kvm2", "kvm3"}
    assert off.state == "shut off"
    assert len(lines_of_guests(drained)) == 6
    assert "evacuated" in fleet.play("status").ok().said

    # Whatever a controller believes, the host takes nobody.
    refused = fleet.play("migrate", instance="other", target_host="kvm1", **QUICK).refused()
    assert "is evacuated" in " ".join(refused.split())
    assert other.hosts == ["kvm2"]

    back = fleet.play("restore", host="kvm1", reason="it has its memory", back="all", **QUICK).ok()
    assert back.stats["kvmfleet_fleet"]["totals"]["moved"] == 3
    assert record(lab["kvm1"])["state"] == "in_service"
    for subject in subjects.values():
        assert subject.runs_once_with_its_data() == "kvm1"
        assert "drain_origin" not in subject.guest.xml
    assert (off.hosts, off.state) == (["kvm1"], "shut off")
    fleet.vars["kvmfleet_resize_confirm_window"] = 1
    fleet.play("auto_confirm", **QUICK)
