# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The playbooks under ansible-runner, AWX's executor: each step gets nothing but the artifacts of the one before, as in a workflow."""

from __future__ import annotations

import json
from typing import Any

import ansible_runner
import pytest
from support.fleet import Fleet
from support.guest import Guests
from support.lab import Lab

NUMBERS = ("overlay_bytes", "resumed_bytes", "base_bytes", "bandwidth_limit")
FAILED = ("failed", 2)


def run_job(fleet: Fleet, playbook: str, *, ends: tuple[str, int] = ("successful", 0), options: str = "", **extra: Any) -> dict[str, Any]:
    """Run a playbook as AWX does; its artifacts, which are of plain types.

    :param ends: status and return code; :param options: of the command line.
    """
    directory = fleet.directory / "jobs" / f"{len(list(fleet.directory.glob('jobs/*')))}-{playbook}"
    directory.mkdir(parents=True)
    job = ansible_runner.run(
        private_data_dir=str(directory),
        inventory=str(fleet.inventory()),
        playbook=f"kvmfleet.compute.{playbook}",
        extravars=extra,
        envvars=fleet.environment(),
        cmdline=options or None,
        quiet=True,
    )
    said = job.stdout.read()
    assert (job.status, job.rc) == ends, said
    (last,) = (event for event in job.events if event["event"] == "playbook_on_stats")
    artifacts = last["event_data"]["artifact_data"]
    lines = said.splitlines()
    print(f"{playbook}: {len(lines)} lines", *lines[:10], "...", *lines[-10:], json.dumps(artifacts, indent=1), sep="\n")
    return artifacts


@pytest.mark.parametrize(("step", "host", "flavor"), [("confirm", "kvm2", "medium"), ("revert", "kvm1", "small")])
def test_the_artifacts_of_a_resize_name_what_is_confirmed_or_reverted(fleet: Fleet, guests: Guests, step: str, host: str, flavor: str) -> None:
    """Two guests wait; the one of the artifacts is settled."""
    guest = guests.create("web", "kvm1", start=False)
    artifacts = run_job(fleet, "resize", instance="web", flavor="medium", resize_allow_resize_to_same_host=False)
    moved = artifacts["kvmfleet_migration"]
    assert (moved["status"], moved["outcome"], {type(moved[name]) for name in NUMBERS}) == ("finished", "moved", {int})
    assert moved["base_bytes"] == sum(base["bytes_transferred"] for base in moved["bases"])
    artifacts = run_job(fleet, step, **artifacts)
    assert artifacts["kvmfleet_migration"]["status"] == artifacts["kvmfleet_migration"]["outcome"] == f"{step}ed".replace("ee", "e")
    assert [one["migration_uuid"] for one in artifacts["kvmfleet_migrations"]] == [moved["migration_uuid"]]
    assert guest.hosts == [host]
    assert guest.defined == fleet.flavors[flavor]


def test_a_workflow_settles_no_operation_but_its_own(fleet: Fleet, guests: Guests) -> None:
    """A resize finds nothing to do, since an earlier one gave the guest that flavor; when it is denied, the earlier one stays as it is."""
    guest = guests.create("web", "kvm1", start=False)
    earlier = run_job(fleet, "resize", instance="web", flavor="medium", resize_allow_resize_to_same_host=False)["kvmfleet_migration"]
    answers = {"instance": "web", "flavor": "medium"}  # the variables of a workflow reach each of its nodes
    artifacts = run_job(fleet, "migrate", **answers, target_host="kvm2")
    assert artifacts["kvmfleet_migration"]["status"] == "nothing_to_do"
    run_job(fleet, "revert", **answers, **artifacts)
    assert (guest.hosts, guest.defined) == (["kvm2"], fleet.flavors["medium"])
    run_job(fleet, "confirm", **answers, kvmfleet_migration=earlier)
    assert guest.defined == fleet.flavors["medium"]
    nothing = run_job(fleet, "recover")
    assert (nothing["kvmfleet_migration"]["outcome"], nothing["kvmfleet_migrations"]) == ("nothing_to_do", [])


def test_whatever_comes_to_nothing_leaves_an_artifact(lab: Lab, fleet: Fleet, guests: Guests) -> None:
    """Planned, shown by check mode, refused, narrowed by a limit, not understood, and undone."""
    guest = guests.create("web", "kvm1", start=False)
    move = {"instance": "web", "flavor": "medium", "resize_allow_resize_to_same_host": False}

    plan = run_job(fleet, "plan", **move)["kvmfleet_plan"]
    assert (plan["action"], plan["destination"], plan["hosts"]["kvm2"][0].split(",")[0]) == ("move", "kvm2", "selected")
    assert run_job(fleet, "resize", options="--check", **move)["kvmfleet_plan"] == plan

    error = run_job(fleet, "resize", ends=FAILED, **{**move, "flavor": "huge"})["kvmfleet_error"]
    assert (error["code"], error["instance"], set(error["hosts"])) == ("no_valid_host", "web", {"kvm1", "kvm2"})
    assert error["guest_is"] == "as before on kvm1: nothing was changed"
    error = run_job(fleet, "resize", ends=FAILED, options="--limit kvm1", **move)["kvmfleet_error"]
    assert (error["code"], error["details"]["left_out"]) == ("narrowed_run", ["localhost", "kvm2"])
    error = run_job(fleet, "resize", ends=FAILED, **move, allow_downsize="perhaps")["kvmfleet_error"]
    assert (error["code"], error["guest_is"]) == ("invalid_value", "as before: nothing was changed")

    lab["kvm2"].sh(f"touch {guest.disk}")
    artifacts = run_job(fleet, "resize", ends=FAILED, **move)
    lab["kvm2"].sh(f"rm {guest.disk}")
    assert (artifacts["kvmfleet_migration"]["status"], artifacts["kvmfleet_migration"]["outcome"]) == ("error", "undone")
    assert (artifacts["kvmfleet_error"]["code"], artifacts["kvmfleet_error"]["guest_is"]) == ("claim_refused", "as before on kvm1")
    assert set(artifacts["kvmfleet_error"]["hosts"]) == {"kvm2"}
    assert guest.hosts == ["kvm1"]
