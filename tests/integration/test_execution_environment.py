# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The project of the example in a root that has what the image of the execution environment has: ansible-runner as uid 1000, without sudo or root."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from support.execution_environment import USER, ExecutionEnvironment
from support.fleet import Fleet
from support.guest import Guests

KEPT = ("ansible_user", "ansible_python_interpreter", "kvmfleet_flavors")


@pytest.fixture
def environment(tmp_path: Path) -> ExecutionEnvironment:
    directory = tmp_path / "runner"
    directory.mkdir()
    return ExecutionEnvironment(directory, Path(os.environ["ANSIBLE_COLLECTIONS_PATH"]))


def as_awx_has_it(fleet: Fleet) -> tuple[dict[str, Any], Path]:
    """The inventory without what is about this machine, and the key that AWX hands to ssh-agent."""
    variables = {name: value for name, value in fleet.vars.items() if name in KEPT}
    options = {"ansible_ssh_common_args": "-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null"}
    return {"compute": {"hosts": fleet.hosts, "vars": {**variables, **options}}}, Path(fleet.vars["ansible_ssh_private_key_file"])


@pytest.mark.slow
@pytest.mark.parametrize(("step", "host", "flavor"), [("confirm", "kvm2", "medium"), ("revert", "kvm1", "small")])
def test_a_workflow_runs_in_the_image_as_nobody_of_note(
    fleet: Fleet, guests: Guests, environment: ExecutionEnvironment, step: str, host: str, flavor: str
) -> None:
    assert environment.enter("id", "-u").stdout.split() == [str(USER)]
    assert not [path for path in ("usr/bin/sudo", "usr/bin/doas") if (environment.root / path).exists()]
    guest = guests.create("web", "kvm1", start=False)
    inventory, key = as_awx_has_it(fleet)
    answers = {"instance": "web", "flavor": "medium", "allow_resize_to_same_host": "false"}
    status, artifacts, said = environment.run("plan", inventory, key, **answers)
    assert status == 0, said
    status, artifacts, said = environment.run("resize", inventory, key, **answers, **artifacts)
    assert (status, artifacts.get("kvmfleet_migration", {}).get("status")) == (0, "finished"), said
    status, artifacts, said = environment.run(step, inventory, key, **answers, **artifacts)
    assert status == 0, said
    assert (guest.hosts, guest.defined) == ([host], fleet.flavors[flavor])


@pytest.mark.slow
def test_a_refusal_in_the_image_fails_the_job_and_leaves_the_guest(fleet: Fleet, guests: Guests, environment: ExecutionEnvironment) -> None:
    guest = guests.create("web", "kvm1", start=False)
    inventory, key = as_awx_has_it(fleet)
    status, _artifacts, said = environment.run("resize", inventory, key, instance="web", flavor="none such")
    assert status != 0
    assert "none such" in said
    assert (guest.hosts, guest.defined) == (["kvm1"], fleet.flavors["small"])
