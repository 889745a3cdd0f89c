# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The playbooks as jobs of AWX, with its executor and its variables: each step gets nothing but the artifacts of the one before, as in a workflow."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from support.fleet import Run
from support.guest import Guests
from support.jobs import USER, Jobs
from support.lab import Lab

NUMBERS = ("overlay_bytes", "resumed_bytes", "base_bytes", "bandwidth_limit")
FAILED = ("failed", 2)
MOVE = {"instance": "web", "flavor": "medium", "allow_resize_to_same_host": "false"}
# A question of a survey that nobody has answered has its default, which for a text is a blank one.
UNANSWERED = dict.fromkeys(("zone", "target_host", "root_disk", "ephemeral_disk", "swap_disk", "reason"), "")
BLANK = dict.fromkeys(("instance", "reason"), "")
RESIZE = {**UNANSWERED, **MOVE, "allow_downsize": "false", "grow_filesystem": "false", "on_shutdown_timeout": "fail", "facts_max_age": 0}
LINES_OF_A_RESIZE = 170
PROGRESS = re.compile(r"kvm2: (.*?)\d+ % of \d+ MiB")


def ran(jobs: Jobs, playbook: str, *options: str, ends: tuple[str, int] = ("successful", 0), **extra: Any) -> Run:
    """A job that has ended; its artifacts are of plain types.

    :param options: of the command line; :param ends: its status and return code.
    """
    job = jobs.start(playbook, *options, **extra)
    run = job.wait()
    assert (job.status, run.rc) == ends, run.output
    lines = run.output.splitlines()
    print(f"{playbook}: {len(lines)} lines", *lines[:10], "...", *lines[-10:], json.dumps(run.stats, indent=1), sep="\n")
    return run


def run_job(jobs: Jobs, playbook: str, *options: str, ends: tuple[str, int] = ("successful", 0), **extra: Any) -> dict[str, Any]:
    """The artifacts of a job that has ended."""
    return ran(jobs, playbook, *options, ends=ends, **extra).stats


def test_a_job_runs_as_nobody_of_note(jobs: Jobs) -> None:
    assert jobs.enter("id", "-u").stdout.split() == [str(USER)]
    assert jobs.enter("sudo", "-n", "true").returncode
    assert jobs.enter("cat", "/etc/shadow").returncode


@pytest.mark.parametrize(
    ("jobs", "step", "host", "flavor"),
    [
        ("oldest", "confirm", "kvm2", "medium"),
        ("newest", "revert", "kvm1", "small"),
        pytest.param("newest", "confirm", "kvm2", "medium", marks=pytest.mark.slow),
        pytest.param("default", "confirm", "kvm2", "medium", marks=pytest.mark.slow),
        pytest.param("default", "revert", "kvm1", "small", marks=pytest.mark.slow),
        pytest.param("oldest", "revert", "kvm1", "small", marks=pytest.mark.slow),
    ],
    indirect=["jobs"],
)
def test_the_artifacts_of_a_resize_name_what_is_confirmed_or_reverted(jobs: Jobs, guests: Guests, step: str, host: str, flavor: str) -> None:
    """The base image is fetched; what is settled is the operation of the artifacts, whatever the survey left blank."""
    guest = guests.create("web", "kvm1", start=False)
    resize = ran(jobs, "resize", **RESIZE)
    moved = resize.migration
    assert (moved["status"], moved["outcome"], {type(moved[name]) for name in NUMBERS}) == ("finished", "moved", {int})
    assert moved["base_bytes"] == sum(base["bytes_transferred"] for base in moved["bases"])
    assert len(resize.output.splitlines()) <= LINES_OF_A_RESIZE
    artifacts = run_job(jobs, step, **resize.stats, **BLANK)
    assert artifacts["kvmfleet_migration"]["status"] == artifacts["kvmfleet_migration"]["outcome"] == f"{step}ed".replace("ee", "e")
    assert [one["migration_uuid"] for one in artifacts["kvmfleet_migrations"]] == [moved["migration_uuid"]]
    assert guest.hosts == [host]
    assert guest.defined == jobs.flavors[flavor]


def test_a_workflow_settles_no_operation_but_its_own(jobs: Jobs, guests: Guests) -> None:
    """A resize finds nothing to do, since an earlier one gave the guest that flavor; when it is denied, the earlier one stays as it is."""
    guest = guests.create("web", "kvm1", start=False)
    earlier = run_job(jobs, "resize", **MOVE)["kvmfleet_migration"]
    answers = {"instance": "web", "flavor": "medium"}  # the variables of a workflow reach each of its nodes
    artifacts = run_job(jobs, "migrate", **answers, target_host="kvm2")
    assert artifacts["kvmfleet_migration"]["status"] == "nothing_to_do"
    run_job(jobs, "revert", **answers, **artifacts)
    assert (guest.hosts, guest.defined) == (["kvm2"], jobs.flavors["medium"])
    run_job(jobs, "confirm", **answers, kvmfleet_migration=earlier)
    assert guest.defined == jobs.flavors["medium"]
    nothing = run_job(jobs, "recover")
    assert (nothing["kvmfleet_migration"]["outcome"], nothing["kvmfleet_migrations"]) == ("nothing_to_do", [])


def test_whatever_comes_to_nothing_leaves_an_artifact(lab: Lab, jobs: Jobs, guests: Guests) -> None:
    """Planned, shown by check mode, refused, narrowed by a limit, not understood, and undone."""
    guest = guests.create("web", "kvm1", start=False)

    plan = run_job(jobs, "plan", **MOVE)["kvmfleet_plan"]
    assert (plan["action"], plan["destination"], plan["hosts"]["kvm2"][0].split(",")[0]) == ("move", "kvm2", "selected")
    assert run_job(jobs, "resize", "--check", **MOVE)["kvmfleet_plan"] == plan

    error = run_job(jobs, "resize", ends=FAILED, **{**MOVE, "flavor": "huge"})["kvmfleet_error"]
    assert (error["code"], error["instance"], set(error["hosts"])) == ("no_valid_host", "web", {"kvm1", "kvm2"})
    assert error["guest_is"] == "as before on kvm1: nothing was changed"
    error = run_job(jobs, "resize", "--limit", "kvm1", ends=FAILED, **MOVE)["kvmfleet_error"]
    assert (error["code"], error["details"]["left_out"]) == ("narrowed_run", ["localhost", "kvm2"])
    error = run_job(jobs, "resize", ends=FAILED, **MOVE, allow_downsize="perhaps")["kvmfleet_error"]
    assert (error["code"], error["guest_is"]) == ("invalid_value", "as before: nothing was changed")

    lab["kvm2"].sh(f"touch {guest.disk}")
    artifacts = run_job(jobs, "resize", ends=FAILED, **MOVE)
    lab["kvm2"].sh(f"rm {guest.disk}")
    assert (artifacts["kvmfleet_migration"]["status"], artifacts["kvmfleet_migration"]["outcome"]) == ("error", "undone")
    assert (artifacts["kvmfleet_error"]["code"], artifacts["kvmfleet_error"]["guest_is"]) == ("claim_refused", "as before on kvm1")
    assert set(artifacts["kvmfleet_error"]["hosts"]) == {"kvm2"}
    assert guest.hosts == ["kvm1"]


@pytest.mark.slow
def test_a_fetched_base_and_each_round_ahead_say_how_far_they_are(lab: Lab, jobs: Jobs, guests: Guests) -> None:
    """A line each second, in its place in the log; the job ends."""
    lab["kvm2"].sh("rm -rf /var/lib/libvirt/images/_base")
    guest = guests.create("web", "kvm1")
    data = guest.write(48)
    run = ran(jobs, "resize", **RESIZE, migrate_progress_interval=1, migrate_bandwidth_limit="8M", migrate_precopy="always")
    assert run.migration["precopy"]["rounds"] >= 1
    said = [match[1] for match in map(PROGRESS.search, run.output.splitlines()) if match]
    assert len([line for line in said if line.startswith("base image")]) >= 2, said
    assert len([line for line in said if not line.startswith("base image")]) >= 2, said
    assert (guest.hosts, guest.look().data) == (["kvm2"], data)
    run_job(jobs, "confirm", **run.stats)


def of_awx(**variables: Any) -> dict[str, Any]:
    """Variables of a job, with both names that AWX gives them."""
    return {f"{prefix}_{name}": value for prefix in ("awx", "tower") for name, value in variables.items()}


@pytest.mark.parametrize("jobs", ["oldest"], indirect=True)
def test_who_did_what_is_in_the_journal_as_awx_tells_it(lab: Lab, jobs: Jobs, guests: Guests) -> None:
    """A schedule has started a workflow, so that its resize has no user; somebody else's workflow confirms it. The decision outlives the job's files."""
    guests.create("web", "kvm1", start=False)
    jobs.vars["kvmfleet_decision_dir"] = str(jobs.directory / "home/decisions")
    jobs.variables = of_awx(workflow_job_id=7, workflow_job_name="nightly", schedule_id=3, parent_job_schedule_id=3, parent_job_schedule_name="at night")
    moved = run_job(jobs, "resize", **RESIZE)
    assert moved["kvmfleet_decision"]["request"]["instance"]["name"] == "web"
    jobs.variables = of_awx(workflow_job_id=8, user_id=4, user_name="anna")
    run_job(jobs, "confirm", **moved, **{**BLANK, "reason": "it is healthy"})
    began = {"schedule": "at night", "job": "1", "workflow_job": "7"}
    confirmed = {"user": "anna", "job": "2", "workflow_job": "8"}
    for host in ("kvm1", "kvm2"):
        record = lab[host].records()[-1]
        assert {key: value for key, value in record["requested_by"].items() if value} == began
        assert {key: value for key, value in record["taken_over_by"]["by"].items() if value} == {**confirmed}
    history = ran(jobs, "history", instance="web")
    (operation,) = (one for one in history.stats["kvmfleet_history"] if one["migration_uuid"] == moved["kvmfleet_migration"]["migration_uuid"])
    assert (operation["requested_by"], operation["settled_by"]) == (began, confirmed)
    assert "schedule at night, job 1, workflow job 7" in history.output
    assert "anna, job 2, workflow job 8" in history.output
    assert "it is healthy" in history.output
