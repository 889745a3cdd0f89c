# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Guests that belong apart stay apart, whoever moves them and when."""

from __future__ import annotations

import pytest
from support.faults import QUICK, SWITCH, play_to_death
from support.fleet import Fleet
from support.guest import Guests


@pytest.mark.slow
@pytest.mark.whole_fleet
def test_two_members_of_an_anti_affinity_group_never_meet(fleet: Fleet, guests: Guests) -> None:
    """Zone south has two hosts. One twin is sealed and half way to kvm4; the other one may go neither there nor to where the first would return."""
    for number in (1, 2):
        guests.create(f"web{number}", f"kvm{number}", start=False)
    fleet.vars["kvmfleet_server_groups"] = {"web": {"policy": "anti-affinity", "members": ["web*"]}}
    south = {"zone": "south", **QUICK}
    assert play_to_death(fleet, SWITCH, "migrate", instance="web1", target_host="kvm4", **south)
    refused = fleet.play("plan", instance="web2", target_host="kvm4", **south).refused()
    assert "kvm4: ServerGroupAntiAffinityFilter: has 1 members of the server group" in refused
    refused = fleet.play("plan", instance="web2", target_host="kvm1", **QUICK).refused()
    assert "kvm1: ServerGroupAntiAffinityFilter: has 1 members of the server group" in refused
    assert fleet.play("migrate", instance="web2", **south).ok().migration["destination"] == "kvm3"
    fleet.play("recover", **QUICK).ok()
    fleet.play("confirm", instance="web2", **QUICK).ok()
    refused = fleet.play("migrate", instance="web1", scheduler_hints={"same_host": "web2"}, **south).refused()
    assert "kvm3: ServerGroupAntiAffinityFilter" in refused
    assert "kvm4: SameHostFilter: has none of the guests" in refused
