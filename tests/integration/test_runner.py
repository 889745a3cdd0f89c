# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The playbooks under ansible-runner, AWX's executor: each step gets nothing but the artifacts of the one before, as in a workflow."""

from __future__ import annotations

from typing import Any

import ansible_runner
import pytest
from support.fleet import Fleet
from support.guest import Guests


def run_job(fleet: Fleet, playbook: str, **extra: Any) -> dict[str, Any]:
    """Run a playbook as AWX does; its artifacts."""
    directory = fleet.directory / playbook
    directory.mkdir()
    job = ansible_runner.run(
        private_data_dir=str(directory),
        inventory=str(fleet.inventory()),
        playbook=f"kvmfleet.compute.{playbook}",
        extravars=extra,
        envvars=fleet.environment(),
        quiet=True,
    )
    assert (job.status, job.rc) == ("successful", 0), job.stdout.read()
    (last,) = (event for event in job.events if event["event"] == "playbook_on_stats")
    return last["event_data"]["artifact_data"]


@pytest.mark.parametrize(("step", "host", "flavor"), [("confirm", "kvm2", "medium"), ("revert", "kvm1", "small")])
def test_the_artifacts_of_a_resize_name_what_is_confirmed_or_reverted(fleet: Fleet, guests: Guests, step: str, host: str, flavor: str) -> None:
    """Two guests wait; the one of the artifacts is settled."""
    guest = guests.create("web", "kvm1", start=False)
    artifacts = run_job(fleet, "resize", instance="web", flavor="medium", resize_allow_resize_to_same_host=False)
    assert artifacts["kvmfleet_migration"]["status"] == "finished"
    artifacts = run_job(fleet, step, **artifacts)
    assert artifacts["kvmfleet_migration"]["status"] == f"{step}ed".replace("ee", "e")
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
