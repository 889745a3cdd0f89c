# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Several guests in one run: nothing that is known of one is told of the next, and what is wrong with one keeps none of the others."""

from __future__ import annotations

import time
from typing import Any

import pytest
import yaml
from support.faults import SWITCH, eventually, play_to_death
from support.fleet import Fleet
from support.guest import Guests
from support.lab import Lab

QUICK = {"migrate_lease": 3}
OF_A_CHANNEL = ("overlay_bytes", "resumed_bytes", "bandwidth_limit", "base_bytes")


def include(role: str, **variables: Any) -> dict[str, Any]:
    return {"name": role, "ansible.builtin.include_role": {"name": f"kvmfleet.compute.{role}", "rolespec_validate": False}, "vars": variables}


@pytest.mark.slow
def test_nothing_of_a_guest_is_told_of_the_next_one_of_the_same_play(fleet: Fleet, guests: Guests) -> None:
    """The first one travels ahead and through a limited channel, the second one stays where it is."""
    web, app = guests.create("web", "kvm1"), guests.create("app", "kvm1", start=False)
    roles = [
        include("migrate", migrate_instance="web", migrate_precopy="always", migrate_bandwidth_limit="40M"),
        include("resize", resize_instance="app", resize_flavor="medium", resize_target_host="kvm1"),
    ]
    playbook = fleet.directory / "two.yml"
    gather = {"name": "Gather", "ansible.builtin.import_playbook": "kvmfleet.compute.gather"}
    playbook.write_text(yaml.safe_dump([gather, {"name": "Two", "hosts": "localhost", "gather_facts": False, "become": True, "tasks": roles}]))
    run = fleet.play(playbook).ok()
    assert "web runs on kvm2" in run.said
    assert "rounds, until" in run.said
    told = run.migration
    assert (web.hosts, app.hosts, told["instance"], told["in_place"]) == (["kvm2"], ["kvm1"], "app", True)
    assert {name: told[name] for name in OF_A_CHANNEL} == dict.fromkeys(OF_A_CHANNEL, 0)
    assert (told["transport"], told["tunnel"], told["bases"], told["shared_disks"]) == (None, False, [], [])
    assert (told["precopy"]["rounds"], told["precopy"]["bytes"], told["precopy"]["ended"]) == (0, 0, "")


def test_an_operation_that_cannot_be_ended_keeps_recover_from_no_other_one(lab: Lab, fleet: Fleet, guests: Guests) -> None:
    """One fails at its source; the run goes on, tells of both, and fails at its end."""
    pair = {name: guests.create(name, "kvm1", start=False) for name in ("web", "app")}
    for name in pair:
        assert play_to_death(fleet, SWITCH, "resize", instance=name, flavor="medium", resize_allow_resize_to_same_host=False, **QUICK)
    for host in lab.hosts.values():
        eventually(lambda host=host: all(record["lease_until"] < time.time() for record in host.records()), "nobody works on them, which decides their order")
    first, second = (one["instance"] for one in fleet.play("recover", "--check", **QUICK).ok().stats["kvmfleet_migrations"])
    lab["kvm1"].sh(f"touch {pair[first].disk}")
    try:
        run = fleet.play("recover", **QUICK)
        error = run.stats["kvmfleet_error"]
    finally:
        lab["kvm1"].sh(f"rm {pair[first].disk}")
    assert run.rc == 2
    assert error["message"].startswith(f"1 of 2 operations could not be ended ({first})")
    assert (error["code"], error["instance"]) == ("sealed_path_taken", first)
    assert [(one["instance"], one["outcome"]) for one in run.stats["kvmfleet_migrations"]] == [(first, "open"), (second, "undone")]
    assert (pair[second].hosts, pair[second].defined) == (["kvm1"], fleet.flavors["small"])
    assert fleet.play("recover", **QUICK).ok().migration["instance"] == first
    assert [(guest.hosts, guest.defined) for guest in pair.values()] == [(["kvm1"], fleet.flavors["small"])] * 2
