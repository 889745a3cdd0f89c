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


def lines_of_guests(run: Run) -> list[str]:
    """Those that say that a move begins or ends."""
    return [line.strip() for line in run.output.splitlines() if line.strip().startswith("[") and "running," in line]


def test_a_host_is_emptied_for_new_memory_and_all_come_back(lab: Lab, guests: Guests, fleet: Fleet) -> None:
    """One guest runs, two are off; two other hosts may take them."""
    for host in fleet.hosts.values():
        host["kvmfleet_zone"] = "north"
    fleet.hosts["kvm4"]["kvmfleet_enabled"] = False
    guest = guests.create("web1", "kvm1")
    web = Subject(lab, guest, guest.write())
    off = [guests.create(name, "kvm1", start=False) for name in ("db1", "db2")]
    other = guests.create("other", "kvm2", start=False)

    foreseen = fleet.play("drain", "--check", **DIMM).ok().stats["kvmfleet_fleet"]
    assert {move["instance"]: move["downtime"] for move in foreseen["moves"]} == {"web1": "running", "db1": "off", "db2": "off"}
    assert not lab["kvm1"].exists(f"{STATE}/host/maintenance.json")

    drained = fleet.play("drain", **DIMM).ok()
    told = drained.stats["kvmfleet_fleet"]
    assert (told["state"], told["complete"], told["totals"]["moved"]) == ("evacuated", True, 3)
    assert record(lab["kvm1"])["state"] == "evacuated"
    assert lab["kvm1"].domains == []
    assert web.runs_once_with_its_data() in ("kvm2", "kvm3")
    assert {one.state for one in off} == {"shut off"}
    assert len(lines_of_guests(drained)) == 6
    assert "evacuated" in fleet.play("status").ok().said

    refused = fleet.play("migrate", instance="other", target_host="kvm1", **QUICK).refused()
    assert "is evacuated" in " ".join(refused.split())
    assert other.hosts == ["kvm2"]

    back = fleet.play("restore", host="kvm1", reason="it has its memory", back="all", **QUICK).ok()
    assert back.stats["kvmfleet_fleet"]["totals"]["moved"] == 3
    assert record(lab["kvm1"])["state"] == "in_service"
    assert web.runs_once_with_its_data() == "kvm1"
    assert "drain_origin" not in web.guest.xml
    assert [(one.hosts, one.state) for one in off] == [(["kvm1"], "shut off")] * 2
    for name in ("web1", "db1", "db2"):
        fleet.play("confirm", instance=name, **QUICK).ok()
