# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The rulebook, run by ansible-rulebook: alerts go in as Alertmanager sends them, and an API that answers as AWX does starts the jobs.

KVMFLEET_RULEBOOK is the environment of ansible-rulebook.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import described
import loopback
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
RULEBOOK = ROOT / "extensions/eda/rulebooks/alerts.yml"
PROGRAMS = Path(os.environ["KVMFLEET_RULEBOOK"]) / "bin"
TOKEN = "a-token-of-Alertmanager"  # noqa: S105
UUID = "ff73d022-5e02-5ca0-b689-04fd7031faf5"
PATIENCE = 240


def alert(status: str = "firing", **labels: str) -> dict[str, Any]:
    """One alert as Alertmanager sends it."""
    return {"status": status, "labels": {"alertname": "x", "severity": "info", **labels}, "annotations": {}, "startsAt": "2026-01-01T00:00:00Z"}


class Listening:
    """An ansible-rulebook that listens."""

    def __init__(self, awx: loopback.Awx, port: int, output: Path, process: subprocess.Popen[bytes]) -> None:
        self.awx = awx
        self.port = port
        self.output = output
        self.process = process

    def send(self, *alerts: dict[str, Any], token: str = TOKEN) -> int:
        """Send a notification of Alertmanager; the status of the answer."""
        body = json.dumps({"version": "4", "status": alerts[0]["status"], "receiver": "kvmfleet", "alerts": list(alerts)}).encode()
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}/", body, headers)  # noqa: S310
        try:
            with urllib.request.urlopen(request) as answer:  # noqa: S310
                return answer.status
        except urllib.error.HTTPError as error:
            return error.code

    def launched(self, count: int) -> list[tuple[str, dict[str, Any]]]:
        """What AWX was asked to start, once that is so much."""
        end = time.monotonic() + PATIENCE
        while len(self.awx.launched) < count:
            assert time.monotonic() < end, f"{self.awx.launched}\n{self.output.read_text()}"
            assert self.process.poll() is None, self.output.read_text()
            time.sleep(0.2)
        return self.awx.launched


@pytest.fixture(scope="module")
def awx() -> loopback.Awx:
    """An AWX with the templates and surveys that awx_setup makes, as the golden file and the playbooks have them."""
    awx = loopback.Awx(ROOT / "examples/awx/project")
    organization = awx.seed("organizations", name="Virtualization")
    project = awx.seed("projects", name="kvmfleet", organization=organization)
    inventory = awx.seed("inventories", name="kvmfleet", organization=organization)
    for write in json.loads((ROOT / "tests/awx/payloads.json").read_text()):
        kind, _slash, name = write.get("POST", "").partition("/")
        if kind == "job_templates" and not name:
            awx.seed(kind, **{**write["data"], "project": project, "inventory": inventory, "execution_environment": None})
    for name, survey in described.surveys().items():
        if name in awx.names("job_templates"):
            awx.seed_survey(name, survey)
    return awx


@pytest.fixture(scope="module")
def listening(awx: loopback.Awx, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Listening]:
    directory = tmp_path_factory.mktemp("rulebook")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (directory / "vars.yml").write_text(yaml.safe_dump({"awx_organization": "Virtualization", "webhook_token": TOKEN, "webhook_port": port}))
    (directory / "inventory.yml").write_text(yaml.safe_dump({"compute": {"hosts": {"kvm1": {}}}}))
    output = directory / "output"
    with loopback.serving(awx) as url, output.open("wb") as stream:
        controller = ["--controller-url", url, "--controller-token", loopback.TOKEN]
        command = [PROGRAMS / "ansible-rulebook", "--rulebook", RULEBOOK, "--inventory", "inventory.yml", "--vars", "vars.yml", *controller, "--verbose"]
        environment = {**os.environ, "PATH": f"{PROGRAMS}:{os.environ['PATH']}", "EDA_JOB_TEMPLATE_REFRESH_DELAY": "0.2"}
        process = subprocess.Popen(command, cwd=directory, env=environment, stdout=stream, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
        try:
            end = time.monotonic() + PATIENCE
            while True:
                assert process.poll() is None, output.read_text()
                assert time.monotonic() < end, output.read_text()
                try:
                    socket.create_connection(("127.0.0.1", port), 1).close()
                    break
                except OSError:
                    time.sleep(0.5)
            yield Listening(awx, port, output, process)
        finally:
            process.terminate()
            process.wait()


def test_the_rulebook_is_one_by_the_schema_of_ansible_rulebook(tmp_path: Path) -> None:
    check = "import sys, yaml; from ansible_rulebook.validators import Validate; Validate.rulebook(yaml.safe_load(open(sys.argv[1])))"
    misspelt = tmp_path / "misspelt.yml"
    misspelt.write_text(RULEBOOK.read_text().replace("condition:", "conditon:", 1))
    assert subprocess.run([PROGRAMS / "python", "-c", check, RULEBOOK], check=False).returncode == 0
    assert subprocess.run([PROGRAMS / "python", "-c", check, misspelt], check=False, capture_output=True).returncode != 0


def test_a_guest_of_a_host_that_shall_be_emptied_is_planned_for_once(listening: Listening) -> None:
    assert listening.send(alert(kvmfleet="empty_host", host="kvm1", domain="web1"), token="of-somebody") == 401  # noqa: S106
    assert listening.send(alert(kvmfleet="empty_host", host="kvm1", domain="web1")) == 200
    assert listening.launched(1) == [("kvmfleet plan migrate", {"instance": "web1"})]
    listening.send(alert(kvmfleet="empty_host", host="kvm1", domain="web1"))  # repeated, as Alertmanager does
    listening.send(alert("resolved", kvmfleet="empty_host", host="kvm1", domain="web3"))
    listening.send(alert(host="kvm1", domain="web3"))
    listening.send(alert(kvmfleet="empty_host", host="kvm1", domain="web2"))
    assert listening.launched(2)[1:] == [("kvmfleet plan migrate", {"instance": "web2"})]


def test_what_is_healthy_is_confirmed_where_the_operation_is_named(listening: Listening) -> None:
    before = len(listening.awx.launched)
    listening.send(alert(kvmfleet="healthy", domain="web1"))
    listening.send(alert(kvmfleet="healthy", domain="web1", migration_uuid=UUID), alert(kvmfleet="healthy", domain="web2", migration_uuid=UUID))
    listening.send(alert(kvmfleet="healthy", domain="web1", migration_uuid=UUID))
    answers = {"instance": "web1", "migration_uuid": UUID, "reason": "An alert said that it is healthy."}
    assert listening.launched(before + 1)[before:] == [("kvmfleet confirm", answers)]
    assert "Its route needs group_by: ['...']." in listening.output.read_text()
