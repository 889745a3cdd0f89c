# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Things that hosts call differently, from the facts of the source to the plan."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.planning import mapping, references, storage
from ansible_collections.kvmfleet.compute.tests.unit.plugins.plugin_utils.planning.test_migration import domain, host, planned, refused

NAMES = {"bridges": {"prod": "br0"}, "pools": {"fast": "nvme"}, "emulators": {"qemu": "/usr/bin/qemu-system-x86_64"}, "firmware": {"code": "/ovmf/code.fd"}}
OTHER = {"bridges": {"prod": "bridge0"}, "pools": {"fast": "nvme"}, "emulators": {"qemu": "/usr/libexec/qemu-kvm"}, "firmware": {"code": "/edk2/code.fd"}}
GUEST = domain(firmware={"nvram": None, "loader": "/ovmf/code.fd", "nvram_template": "/ovmf/vars.fd"})
KVM1 = {"name": "web1", "uuid": "i-1", "state": "running"}


def fleet(mappings: dict[str, Any], bridges: list[str], **facts: Any) -> list[dict[str, Any]]:
    return [host("kvm1", domains=[KVM1], used=768, mappings=NAMES), host("kvm2", mappings=mappings, bridges=bridges, **facts)]


def test_what_has_a_name_is_translated_and_what_has_none_stays() -> None:
    names = mapping.named(GUEST, {"mappings": NAMES})
    assert names == {
        "bridges": {"br0": "prod"},
        "emulators": {"/usr/bin/qemu-system-x86_64": "qemu"},
        "firmware": {"/ovmf/code.fd": "code"},
    }
    assert mapping.translated(names, {"mappings": OTHER}) == {
        "bridges": {"br0": "bridge0"},
        "emulators": {"/usr/bin/qemu-system-x86_64": "/usr/libexec/qemu-kvm"},
        "firmware": {"/ovmf/code.fd": "/edk2/code.fd"},
    }
    assert mapping.translated(names, {"mappings": NAMES}) == {}
    assert mapping.named(GUEST, {}) == {}


def test_the_plan_asks_the_destination_for_what_it_calls_so() -> None:
    facts = {"emulators": {"x86_64": "/usr/libexec/qemu-kvm"}, "files": {"/edk2": ["code.fd"], "/ovmf": ["vars.fd"]}}
    found = planned(hosts=fleet(OTHER, ["bridge0"], **facts), guest=GUEST, migrate=True)
    assert found["candidates"] == ["kvm2"]
    needed = found["for"]["kvm2"]["requirements"]
    assert (needed["bridges"], needed["emulator"], needed["loader"]) == (["bridge0"], "/usr/libexec/qemu-kvm", "/edk2/code.fd")
    assert needed["nvram_template"] == "/ovmf/vars.fd"
    assert found["for"]["kvm2"]["mappings"]["bridges"] == {"br0": "bridge0"}


@pytest.mark.parametrize(
    ("mappings", "bridges", "said"),
    [
        ({}, ["br0"], "has no bridge prod in kvmfleet_mappings.bridges"),
        ({"bridges": {"prod": "bridge0"}}, ["br0"], "has no bridge bridge0 (prod)"),
        ({"bridges": {"prod": "br0"}}, ["br0"], "has no emulator qemu in kvmfleet_mappings.emulators"),
    ],
)
def test_a_host_without_the_thing_of_that_name_is_none(mappings: dict[str, Any], bridges: list[str], said: str) -> None:
    """Even if it has something that the source calls so."""
    assert said in refused(hosts=fleet(mappings, bridges), migrate=True)["message"]


def test_a_host_whose_mappings_are_none_is_named() -> None:
    message = refused(hosts=fleet({"bridges": {"prod": 7}}, ["br0"]), migrate=True)["message"]
    assert "mappings.bridges.prod: expected a string, got 7" in message


def test_a_guest_that_stays_keeps_its_names() -> None:
    found = planned(hosts=[host("kvm1", domains=[KVM1], used=768, mappings=NAMES, bridges=["br0"])])
    assert (found["action"], found["for"]["kvm1"]["mappings"], found["for"]["kvm1"]["requirements"]["bridges"]) == ("in_place", {}, ["br0"])


def test_the_plan_says_what_is_mapped() -> None:
    known = [{"kind": "bridge", "name": name, "answer": "keep", "reason": "the destination must have this bridge"} for name in ("br0", "br1")]
    answers = references.answers({"references": known}, {"bridges": {"br0": "bridge0"}})
    assert references.lines(answers) == ["map bridge br0 (bridge0 at the destination)", "keep bridge br1 (the destination must have this bridge)"]


def test_a_volume_lies_in_the_pool_of_the_name() -> None:
    disk = {"target": "vda", "device": "disk", "readonly": False, "path": "/p/x", "pool": "nvme", "volume": "x"}
    there = {"host": "kvm2", "pools": [{"name": "ssd", "path": "/s"}, {"name": "nvme", "path": "/wrong"}]}
    (answer,) = storage.place({"disks": [disk]}, {"host": "kvm1"}, there, {"pools": {"nvme": "ssd"}})
    assert (answer["pool"], answer["path"]) == ("ssd", "/s/x")
