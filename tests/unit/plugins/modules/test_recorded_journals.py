# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Operations that earlier code finished are confirmed and reverted by the code of today: its journals (fixtures/journals), real images, a guest that runs.

The modules of today are called in the order of the playbooks. Each host of an operation has a directory of its own; the one libvirt that can run guests here
is that of the host on which the guest is defined, and the other host has libvirt's test driver, which knows nothing of it.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import libvirt
import pytest

from ansible_collections.kvmfleet.compute.plugins.module_utils import _module
from ansible_collections.kvmfleet.compute.plugins.module_utils._domain import definition as _definition
from ansible_collections.kvmfleet.compute.plugins.module_utils._host.state import Reserved, host_state
from ansible_collections.kvmfleet.compute.plugins.module_utils._journal.state_dir import StateDir
from ansible_collections.kvmfleet.compute.plugins.module_utils._libvirt import connection as _connection
from ansible_collections.kvmfleet.compute.plugins.modules import destination_copy, resize_in_place, source_copy
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.planning.recovery import decide
from ansible_collections.kvmfleet.compute.tests.unit.plugins.module_utils import booted

JOURNALS = Path(__file__).parents[2] / "fixtures" / "journals"
GENERATIONS = sorted(path.name for path in JOURNALS.iterdir() if path.is_dir())
HOSTS = ("kvm1", "kvm2")
VARIABLES = bytes(range(256)) * 2112
RECORDED = "/var/lib/libvirt"  # where the lab's hosts have images and firmware variables


class Fleet:
    """Two hosts as a recording left them, for one guest."""

    def __init__(self, recorded: Path, directory: Path, qemu: libvirt.virConnect, guest: str) -> None:
        self.recorded, self.directory, self.qemu, self.guest = recorded, directory, qemu, guest
        self.states = {host: StateDir(str(directory / host / "state")) for host in HOSTS}
        for host in HOSTS:
            for path, file in json.loads(self._told(host, "files.json")).items():
                self._make(path, file)
            (directory / host / "state").mkdir(parents=True, exist_ok=True)
            for document in (recorded / host / "state").rglob("*.json"):
                copy = Path(self.states[host].path) / document.relative_to(recorded / host / "state")
                copy.parent.mkdir(parents=True, exist_ok=True)
                copy.write_text(self._of_these_files(json.loads(self._told(host, str(document.relative_to(recorded / host))))))
        self.host = next(host for host in HOSTS if (recorded / host / "domains" / f"{guest}.xml").exists())
        self.domain = qemu.defineXML(self._told(self.host, f"domains/{guest}.xml"))
        self.uuid = next(record["uuid"] for record in self.records.values())

    def _told(self, host: str, document: str) -> str:
        """As recorded, in the directory of the host."""
        return (self.recorded / host / document).read_text().replace(RECORDED, str(self.directory / host))

    def _make(self, path: str, file: dict[str, Any]) -> None:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        if "sha256" in file:
            Path(path).write_bytes(VARIABLES)
        elif file["backing"] is None:
            booted.write(path, counts=True)
        else:
            command = ["qemu-img", "create", "-q", "-f", file["format"], "-u", "-F", file["backing_format"], "-b", file["backing"], path]
            subprocess.run([*command, str(file["virtual_size"])], check=True)

    @staticmethod
    def _of_these_files(document: dict[str, Any]) -> str:
        """What a record tells of the files that an operation has made, told of those that the test has made."""
        for path in document.get("inodes", ()):
            document["inodes"][path] = os.stat(path).st_ino
        return json.dumps(document)

    @property
    def records(self) -> dict[str, dict[str, Any]]:
        """That of each host that has one of the guest."""
        found = {host: [record for record in state.read_all("migrations") if record["instance_name"] == self.guest] for host, state in self.states.items()}
        return {host: records[0] for host, records in found.items() if records}

    def libvirt(self, host: str) -> libvirt.virConnect:
        return self.qemu if host == self.host else libvirt.open("test:///default")

    def path(self, host: str, name: str) -> Path:
        return self.directory / host / name

    def files(self) -> set[str]:
        """Names of the guest's own files, by host."""
        return {str(path.relative_to(self.directory)) for host in HOSTS for path in self.path(host, "").rglob(f"{self.guest}[._]*")}

    def facts(self) -> list[dict[str, Any]]:
        """What both hosts tell the controller."""
        asked = {host: {"reserved": Reserved(), "images_path": str(self.path(host, "images"))} for host in HOSTS}
        return [{**host_state(self.libvirt(host), self.states[host], **options), "host": host} for host, options in asked.items()]


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Any]]:
    """Call a module in this process, with the defaults of its options."""

    def act(module: Any, fleet: Fleet, host: str, wanted: str) -> dict[str, Any]:
        results: list[dict[str, Any]] = []
        record = fleet.records[host]
        given = {"state": wanted, "state_path": fleet.states[host].path, "migration_uuid": record["uuid"], "owner": record["owner"]}

        def run(main: Callable[[Any], dict[str, Any]], spec: dict[str, Any], **_options: Any) -> None:
            defaults = {name: option.get("default") for name, option in spec.items()}
            results.append(main(SimpleNamespace(check_mode=False, params={**defaults, "settle_time": 0.1, **given})))

        monkeypatch.setattr(_module, "run", run)
        monkeypatch.setattr(_connection, "connect", lambda _uri: contextlib.nullcontext(fleet.libvirt(host)))
        module.main()
        return results[0]

    return act


@pytest.fixture
def fleet(request: pytest.FixtureRequest, tmp_path: Path, qemu: libvirt.virConnect) -> Fleet:
    generation, guest = request.param
    return Fleet(JOURNALS / generation, tmp_path, qemu, guest)


def of(runs: str, is_off: str) -> Any:
    """A guest that is off of each generation, and one that runs, which takes seconds, of the oldest and of the newest."""
    cases = [(generation, is_off) for generation in GENERATIONS] + [(generation, runs) for generation in (GENERATIONS[0], GENERATIONS[-1])]
    return pytest.mark.parametrize("fleet", cases, indirect=True, ids=[" ".join(case) for case in cases])


def decided(fleet: Fleet, verb: str) -> None:
    """The controller reads the records too."""
    (decision,) = decide(fleet.facts(), verb, fleet.guest)
    assert (decision["action"], decision["source"], decision["settled"]) == (verb, "kvm1", True)


def is_old(fleet: Fleet, domain: libvirt.virDomain) -> None:
    """It is defined as before the resize, on the disk of its source."""
    root = _definition.parse(domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE))
    assert domain.maxMemory() == 64 * 1024
    assert [disk.path for disk in _definition.disks(root)] == [str(fleet.path("kvm1", f"images/{fleet.guest}.qcow2"))]


def test_there_are_journals_of_several_generations() -> None:
    assert len(GENERATIONS) >= 3
    for generation in GENERATIONS:
        records = [json.loads(path.read_text()) for path in (JOURNALS / generation).glob("*/state/migrations/*.json")]
        assert {record["status"] for record in records} == {"finished"}
        assert sorted(record["role"] for record in records) == ["destination"] * 2 + ["in_place"] * 2 + ["source"] * 2


@of("moved", "moved-off")
def test_a_move_that_earlier_code_finished_is_confirmed(fleet: Fleet, call: Any) -> None:
    runs = fleet.guest == "moved"
    if runs:
        booted.start(fleet.domain)
    number, copy = fleet.domain.ID(), {name for name in fleet.files() if name.startswith("kvm2") and ".xml" not in name}
    decided(fleet, "confirm")
    call(destination_copy, fleet, "kvm2", "proven")
    call(source_copy, fleet, "kvm1", "absent")
    call(destination_copy, fleet, "kvm2", "confirmed")
    assert {record["status"] for record in fleet.records.values()} == {"confirmed"}
    assert fleet.files() == copy
    assert (fleet.domain.ID(), fleet.domain.isActive()) == (number, runs)
    assert not [claim for state in fleet.states.values() for claim in state.read_all("claims") if claim["migration_uuid"] == fleet.uuid]


@of("moved", "moved-off")
def test_a_move_that_earlier_code_finished_is_reverted(fleet: Fleet, call: Any, qemu: libvirt.virConnect) -> None:
    runs = fleet.guest == "moved"
    if runs:
        booted.start(fleet.domain)
    decided(fleet, "revert")
    call(source_copy, fleet, "kvm1", "restorable")
    call(destination_copy, fleet, "kvm2", "undefined")
    fleet.host = "kvm1"
    call(source_copy, fleet, "kvm1", "restored")
    call(destination_copy, fleet, "kvm2", "absent")
    assert {record["status"] for record in fleet.records.values()} == {"reverted"}
    variables = set() if runs else {f"kvm1/qemu/nvram/{fleet.guest}_VARS.fd"}
    assert fleet.files() == {f"kvm1/images/{fleet.guest}.qcow2", *variables}
    is_old(fleet, qemu.lookupByName(fleet.guest))
    assert qemu.lookupByName(fleet.guest).isActive() == runs
    assert not [claim for state in fleet.states.values() for claim in state.read_all("claims") if claim["migration_uuid"] == fleet.uuid]


@of("grown", "grown-off")
def test_a_resize_in_place_that_earlier_code_finished_is_confirmed(fleet: Fleet, call: Any) -> None:
    runs = fleet.guest == "grown"
    if runs:
        booted.start(fleet.domain)
    number = fleet.domain.ID()
    decided(fleet, "confirm")
    call(resize_in_place, fleet, "kvm1", "confirmed")
    assert fleet.records["kvm1"]["status"] == "confirmed"
    disk = f"kvm1/images/{fleet.guest}.qcow2"
    assert fleet.files() == ({disk} if runs else {disk, f"kvm1/qemu/nvram/{fleet.guest}_VARS.fd"})
    assert (fleet.domain.ID(), fleet.domain.maxMemory()) == (number, 96 * 1024)
    if runs:
        fleet.domain.destroy()
        assert booted.boots(str(fleet.directory / disk), "qcow2") == 1  # what it wrote into the layer is in its disk


@of("grown", "grown-off")
def test_a_resize_in_place_that_earlier_code_finished_is_reverted(fleet: Fleet, call: Any) -> None:
    runs = fleet.guest == "grown"
    variables = fleet.path("kvm1", f"qemu/nvram/{fleet.guest}_VARS.fd")
    if runs:
        booted.start(fleet.domain)
    else:
        variables.write_bytes(VARIABLES[::-1])  # written since; their length never changes
    decided(fleet, "revert")
    call(resize_in_place, fleet, "kvm1", "restored")
    assert fleet.records["kvm1"]["status"] == "reverted"
    disk = f"kvm1/images/{fleet.guest}.qcow2"
    assert fleet.files() == ({disk} if runs else {disk, f"kvm1/qemu/nvram/{fleet.guest}_VARS.fd"})
    is_old(fleet, fleet.domain)
    assert fleet.domain.isActive() == runs
    if not runs:
        assert variables.read_bytes() == VARIABLES
