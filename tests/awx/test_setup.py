# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The playbook awx_setup with the real awx.awx, against an API that answers as AWX does.

KVMFLEET_WRITE_GOLDEN=1 writes the golden file anew; look at what changed in it.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import described
import loopback
import pytest

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples/awx"
GOLDEN = Path(__file__).parent / "payloads.json"
MADE = (
    "workflow_job_templates",
    "workflow_job_template_nodes",
    "workflow_approval_templates",
    "job_templates",
    "schedules",
    "notification_templates",
    "teams",
    "inventories",
    "inventory_sources",
    "projects",
    "execution_environments",
)


@dataclass
class Controller:
    """An AWX with an organization, and what runs against it."""

    awx: loopback.Awx
    url: str
    directory: Path
    written: list[dict[str, Any]] = field(default_factory=list)

    def setup(self, *arguments: str, status: int = 0) -> str:
        """Run awx_setup as the example says; what it said."""
        environment = {
            **os.environ,
            "CONTROLLER_HOST": self.url,
            "CONTROLLER_OAUTH_TOKEN": loopback.TOKEN,
            "CONTROLLER_REQUEST_TIMEOUT": "60",
            "ANSIBLE_LOCAL_TEMP": str(self.directory),
            "ANSIBLE_NOCOLOR": "1",
            "ANSIBLE_PIPELINING": "1",
        }
        command = ["ansible-playbook", "-i", "project/inventory.yml", "kvmfleet.compute.awx_setup", "-e", "@site.yml", *arguments]
        run = subprocess.run(command, cwd=EXAMPLE, env=environment, capture_output=True, text=True, check=False)
        assert run.returncode == status, run.stdout + run.stderr
        self.written, self.awx.log = self.awx.log, []
        return run.stdout + run.stderr


def changed(output: str) -> int:
    """Tasks that say that they changed something."""
    found = re.search(r"changed=(\d+)", output)
    assert found, output
    return int(found[1])


@pytest.fixture(scope="module")
def controller(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Controller]:
    awx = loopback.Awx(EXAMPLE / "project", page_size=2)
    organization = awx.seed("organizations", name="Virtualization")
    awx.seed("credentials", name="Ansible Galaxy", kind="galaxy_api_token")
    awx.seed("credentials", name="hypervisors", kind="ssh", organization=organization)
    awx.seed("job_templates", name="of somebody else", project=awx.seed("projects", name="theirs", organization=organization), playbook="status.yml",
             inventory=awx.seed("inventories", name="theirs", organization=organization))  # fmt: skip
    with loopback.serving(awx) as url:
        yield Controller(awx, url, tmp_path_factory.mktemp("ansible"))


def test_check_mode_shows_everything_to_whom_has_nothing_yet(controller: Controller) -> None:
    """What is missing can be asked nothing, so that whatever names it is shown and not looked at."""
    said = controller.setup("--check")
    assert controller.written == []
    shown = said[said.index("Show what needs something that AWX does not have yet") :]
    for name in ("kvmfleet resize", "nodes of kvmfleet resize with approval", "kvmfleet recover", "what may do: kvmfleet approvers"):
        assert f'"{name}"' in shown


def test_check_mode_shows_the_same_where_there_is_no_organization(tmp_path: Path) -> None:
    awx = loopback.Awx(EXAMPLE / "project")
    awx.seed("credentials", name="Ansible Galaxy", kind="galaxy_api_token")
    with loopback.serving(awx) as url:
        controller = Controller(awx, url, tmp_path)
        assert changed(controller.setup("--check")) > 1
        assert controller.written == []


def test_an_organization_without_a_galaxy_credential_is_refused_before_anything_is_made(controller: Controller) -> None:
    said = controller.setup("-e", '{"awx_galaxy_credentials": []}', status=2)
    assert "The organization Virtualization has no Galaxy credential." in " ".join(said.split())
    assert controller.written == []


def test_everything_is_made_as_it_is_written_down(controller: Controller) -> None:
    controller.setup()
    surveys = {write["POST"].split("/")[1]: write for write in controller.written if write.get("POST", "").endswith("/survey_spec")}
    assert {name: write["data"] for name, write in surveys.items()} == described.surveys()
    for write in surveys.values():
        write["data"] = "as described.surveys has it"
    written = json.dumps(controller.written, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
    if os.environ.get("KVMFLEET_WRITE_GOLDEN"):
        GOLDEN.write_text(written, encoding="utf-8")
    assert json.loads(written) == json.loads(GOLDEN.read_text(encoding="utf-8"))
    awx = controller.awx
    assert awx.listed("organizations", "Virtualization", "galaxy_credentials") == ["Ansible Galaxy"]
    assert ("execute", "kvmfleet resize with approval") not in awx.allowed("kvmfleet approvers")
    assert not awx.allowed("kvmfleet requesters") & {("execute", f"kvmfleet {name}") for name in ("resize", "migrate", "confirm", "revert")}
    assert ("execute", "kvmfleet resize with approval") in awx.allowed("kvmfleet requesters")
    assert ("approval", "kvmfleet resize with approval") in awx.allowed("kvmfleet approvers")
    assert ("execute", "kvmfleet confirm") in awx.allowed("kvmfleet operators")


def test_a_second_run_changes_nothing(controller: Controller) -> None:
    """With awx.awx's way to make whole workflows a workflow with an approval would always count as changed; nodes made one by one do not."""
    controller.awx.requests.clear()
    assert changed(controller.setup()) == 0
    assert controller.written == []
    assert any("page=2" in request for request in controller.awx.requests)  # else it would have granted again what stands on a second page


def test_check_mode_shows_what_somebody_changed_by_hand(controller: Controller) -> None:
    template = controller.awx.found("job_templates", "kvmfleet resize")
    template["ask_limit_on_launch"], template["job_slice_count"] = True, 2
    said = controller.setup("--check")
    assert re.findall(r"changed: \[localhost\] => \(item=(.*)\)", said) == ["kvmfleet resize"]
    assert controller.written == []


def test_check_mode_shows_a_template_that_is_new_and_what_it_is_part_of(controller: Controller) -> None:
    """As after an upgrade of the collection."""
    awx = controller.awx
    awx.forget("job_templates", "kvmfleet recover")
    said = controller.setup("--check")
    assert controller.written == []
    assert "changed: [localhost] => (item=kvmfleet recover)" in said
    shown = said[said.index("Show what needs something that AWX does not have yet") :]
    assert '"nodes of kvmfleet resize with approval"' in shown
    assert '"kvmfleet recover"' in shown
    controller.setup()
    assert changed(controller.setup()) == 0


OTHER = ("-e", "awx_organization=Storage")


def test_an_organization_does_not_get_the_execution_environment_of_another_one(controller: Controller) -> None:
    """AWX has each name once, so that it would be taken from those who have it."""
    awx = controller.awx
    organization = awx.seed("organizations", name="Storage")
    awx.seed("credentials", name="of storage", kind="ssh", organization=organization)
    said = controller.setup(*OTHER, "-e", "awx_credential='of storage'", status=2)
    assert "Virtualization" in said
    assert "name_of_another_organization" in said
    assert controller.written == []
    controller.setup(*OTHER, "-e", "awx_state=absent")
    assert awx.names("execution_environments") == ["kvmfleet"]


def test_an_inventory_of_that_name_is_that_of_one_organization(controller: Controller) -> None:
    """awx.awx finds it by its name alone."""
    own = ("-e", "awx_credential='of storage'", "-e", "awx_execution_environment=kvmfleet", "-e", "awx_execution_environment_image=")
    said = controller.setup(*OTHER, *own, status=2)
    assert "name_of_another_organization" in said
    assert "has an inventory kvmfleet" in said
    assert controller.written == []


def test_absent_removes_all_of_it_and_nothing_else(controller: Controller) -> None:
    assert changed(controller.setup("-e", "awx_state=absent")) > 0
    left: dict[str, Any] = {kind: controller.awx.names(kind) for kind in MADE}
    theirs = {"job_templates": ["of somebody else"], "projects": ["theirs"], "inventories": ["theirs"]}
    assert left == {kind: theirs.get(kind, []) for kind in MADE}
    assert controller.awx.names("organizations") == ["Storage", "Virtualization"]
    assert controller.awx.names("credentials") == ["Ansible Galaxy", "hypervisors", "of storage"]
    assert changed(controller.setup("-e", "awx_state=absent")) == 0
