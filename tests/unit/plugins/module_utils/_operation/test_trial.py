# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The destination tries the definition while the guest runs: real libvirt, and the real channel on loopback."""

from __future__ import annotations

import contextlib
import secrets
import threading
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import libvirt
import pytest

from ansible_collections.kvmfleet.compute.plugins.module_utils._channel.export import Server
from ansible_collections.kvmfleet.compute.plugins.module_utils._channel.protocol import DEFINITION
from ansible_collections.kvmfleet.compute.plugins.module_utils._domain import definition as _definition
from ansible_collections.kvmfleet.compute.plugins.module_utils._guest import defining as _defining
from ansible_collections.kvmfleet.compute.plugins.module_utils._host import state as _state
from ansible_collections.kvmfleet.compute.plugins.module_utils._journal import claims as _claims
from ansible_collections.kvmfleet.compute.plugins.module_utils._journal.records import Journal
from ansible_collections.kvmfleet.compute.plugins.module_utils._journal.state_dir import StateDir
from ansible_collections.kvmfleet.compute.plugins.module_utils._libvirt import domains as _domains
from ansible_collections.kvmfleet.compute.plugins.module_utils._operation import receiving as _receiving, withdrawing as _withdrawing
from ansible_collections.kvmfleet.compute.plugins.module_utils._rules.errors import KvmfleetError
from ansible_collections.kvmfleet.compute.tests.unit.plugins.module_utils.handed import disk, plan

PORTS = "27164-27191"
KEY = secrets.token_hex(32)
UUID = "7d5b0ab8-3e23-4a26-9a3e-0b3d3c0e6f10"
GUEST = "0f5d8f9c-2c1e-4f0a-9d35-3a2a5cf0a101"
IMAGES = "/var/lib/libvirt/images"


@pytest.fixture
def channel(tmp_path: Path, definitions: dict[str, str]) -> Iterator[dict[str, Any]]:
    server = Server(StateDir(str(tmp_path / "source")), UUID)
    port = server.open(address="127.0.0.1", ports=PORTS, key=KEY, idle_timeout=30)
    server.offer_document(DEFINITION, {"domain_xml": definitions["virt_install"], "portable_xml": None})
    yield {"address": "127.0.0.1", "port": port, "key": KEY, "stall_timeout": 10}
    server.close()


@pytest.fixture
def journal(state: StateDir) -> Journal:
    journal = Journal(state)
    flavor = {"name": "m1", "vcpus": 4, "ram": 4096, "disk": 20, "ephemeral": 0, "swap": 0, "extra_specs": {}}
    own = {"uuid": UUID, "owner": "run-1", "role": "destination", "destination_host": "kvm2", "image_directories": [IMAGES]}
    journal.begin({**plan("web01", GUEST, [disk(f"{IMAGES}/web01.qcow2")], new_flavor=flavor), **own})
    return journal


def test_the_definition_is_tried_as_it_will_be(qemu: libvirt.virConnect, journal: Journal, channel: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """With the new flavor; neither a domain nor anything in the record is left."""
    before, given = journal.get(UUID), []
    define = _defining.define
    monkeypatch.setattr(_defining, "define", lambda conn, xml: given.append(xml) or define(conn, xml))
    _receiving.try_definition(qemu, journal, before, channel=channel, bases={})
    (root,) = map(_definition.parse, given)
    assert _definition.flavor_in_force(root) == _definition.FlavorInForce("m1", 4, 4096)
    assert root.findtext("uuid") == UUID
    assert qemu.listAllDomains() == []
    assert journal.get(UUID) == before


def test_a_flavor_that_libvirt_here_does_not_take_is_refused(qemu: libvirt.virConnect, journal: Journal, channel: dict[str, Any]) -> None:
    record = journal.get(UUID)
    record["new_flavor"] = {**record["new_flavor"], "vcpus": 100000}
    with pytest.raises(KvmfleetError) as caught:
        _receiving.try_definition(qemu, journal, record, channel=channel, bases={})
    assert caught.value.code == "definition_not_taken"
    assert qemu.listAllDomains() == []


NEWER = "<watchdog model='newer'/></devices>"


@pytest.mark.parametrize(("portable", "taken"), [("</devices>", True), (NEWER, False)])
def test_an_older_libvirt_gets_the_definition_without_what_a_newer_one_added(
    qemu: libvirt.virConnect, journal: Journal, channel: dict[str, Any], definitions: dict[str, str], tmp_path: Path, portable: str, taken: bool
) -> None:
    """If that is enough for it; the destination remembers it until the guest arrives."""
    documents = {name: definitions["virt_install"].replace("</devices>", end) for name, end in (("domain_xml", NEWER), ("portable_xml", portable))}
    Server(StateDir(str(tmp_path / "source")), UUID).offer_document(DEFINITION, documents)
    with contextlib.nullcontext() if taken else pytest.raises(KvmfleetError, match="does not take the definition"):
        _receiving.try_definition(qemu, journal, journal.get(UUID), channel=channel, bases={})
    assert journal.get(UUID).get("private", {}).get("portable_xml") == (documents["portable_xml"] if taken else None)
    assert qemu.listAllDomains() == []


def test_going_back_removes_what_a_killed_trial_left(qemu: libvirt.virConnect, journal: Journal) -> None:
    trial = f"<domain type='qemu'><name>kvmfleet-trial-{UUID}</name><uuid>{UUID}</uuid><memory>65536</memory><os><type>hvm</type></os></domain>"
    qemu.defineXML(trial)
    assert _withdrawing.undefine(qemu, journal, journal.get(UUID), {}) is False
    assert qemu.listAllDomains() == []


def test_a_trial_holds_nobody_up_and_is_no_guest_of_the_host(
    qemu: libvirt.virConnect, journal: Journal, channel: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another operation may claim meanwhile, and finds what it would find without."""
    listed = []
    define = _defining.define

    def tried(conn: Any, xml: str) -> Any:
        domain = define(conn, xml)
        used = _state.usage(conn, journal.state, reserved=_state.Reserved(0, 0, 0), images_path=str(tmp_path))
        listed.append((conn.numOfDefinedDomains(), _domains.all_domains(conn), used.domains, used.vcpus_used, used.num_instances))
        return domain

    monkeypatch.setattr(_defining, "define", tried)
    with journal.state.lock(_claims.LOCK):
        _receiving.try_definition(qemu, journal, journal.get(UUID), channel=channel, bases={})
    assert listed == [(1, [], [], 0, 0)]
    qemu.defineXML(f"<domain type='qemu'><name>kvmfleet-trial-{UUID}</name><memory>65536</memory><os><type>hvm</type></os></domain>")
    assert len(_domains.all_domains(qemu)) == 1  # that of somebody who likes the name


def test_a_definition_that_comes_late_is_found_before_the_guest_is_started_elsewhere(
    qemu: libvirt.virConnect, journal: Journal, definitions: dict[str, str]
) -> None:
    """The module that asked for it was ended since libvirtd hung, and libvirtd goes on in the moment in which the operation is undone."""
    record = journal.update(journal.get(UUID), status="migrating", step="defining", private={"domain_xml": definitions["virt_install"]})
    definition = _definition.parse(_receiving.arriving(record))
    definition.find("uuid").text = GUEST
    late = threading.Timer(0.7, qemu.defineXML, [ET.tostring(definition, encoding="unicode")])
    late.start()
    assert _withdrawing.undefine(qemu, journal, record, {}) is True
    late.join()
    assert qemu.listAllDomains() == []
