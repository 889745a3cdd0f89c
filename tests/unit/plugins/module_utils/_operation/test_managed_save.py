# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A guest whose memory somebody saved after the plan was made: libvirt would start it from that, with disks and a definition that are no more."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import libvirt
import pytest

from ansible_collections.kvmfleet.compute.plugins.module_utils._domain import definition as _definition, edit as _edit, flavor as _flavor
from ansible_collections.kvmfleet.compute.plugins.module_utils._journal.records import Journal
from ansible_collections.kvmfleet.compute.plugins.module_utils._journal.state_dir import StateDir
from ansible_collections.kvmfleet.compute.plugins.module_utils._libvirt import definitions as _definitions, domains as _domains
from ansible_collections.kvmfleet.compute.plugins.module_utils._operation import in_place as _in_place, sealing as _sealing, withdrawing as _withdrawing
from ansible_collections.kvmfleet.compute.plugins.module_utils._rules.errors import KvmfleetError
from ansible_collections.kvmfleet.compute.plugins.module_utils._storage import qemu_img as _qemu_img

SHUTDOWN = {"timeout": 1, "retry_interval": 1, "on_timeout": "fail"}
UUID = "0c9e4f0a-33f5-4f38-b3a2-7d7f1f2e9a01"


@pytest.fixture
def guest(qemu: libvirt.virConnect, definitions: dict[str, str], images: Path, qemu_img: Callable[[str], str]) -> libvirt.virDomain:
    """A stopped guest that this operation has defined."""
    qemu_img("create -q -f qcow2 web01.qcow2 8M")
    text = definitions["virt_install"].replace("/var/lib/libvirt/images", str(images)).replace("host-passthrough", "maximum")
    root = _definition.parse(text)
    _flavor.set_kvmfleet_metadata(root, "small", None, "kvm1", UUID)
    return qemu.defineXML(_edit.to_string(root))


@pytest.fixture
def record(state: StateDir, guest: libvirt.virDomain, images: Path) -> dict[str, Any]:
    path = f"{images}/web01.qcow2"
    chain = [[layer.path, layer.format, layer.virtual_size] for layer in _qemu_img.chain(path, "qcow2", [str(images)])]
    disk = {"target": "vda", "kind": "disk", "path": path, "format": "qcow2", "virtual_size": 8 << 20, "chain": chain}
    fresh = {"uuid": UUID, "owner": "run", "role": "source", "instance_uuid": guest.UUIDString(), "instance_name": guest.name(), "source_host": "kvm1"}
    more = {"destination_host": None, "xml_digest": _definitions.fingerprint(guest), "disks": [disk], "nvram": None, "image_directories": [str(images)]}
    return Journal(state).begin({**fresh, **more})


@pytest.fixture
def saved(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_domains, "has_managed_save", lambda domain: True)


def test_the_source_hands_over_a_guest_that_will_boot(qemu: libvirt.virConnect, state: StateDir, record: dict[str, Any]) -> None:
    assert _sealing.stop_unchanged(qemu, Journal(state), record, SHUTDOWN)["step"] == "stopped"


@pytest.mark.usefixtures("saved")
def test_the_source_keeps_a_guest_that_was_saved(qemu: libvirt.virConnect, state: StateDir, record: dict[str, Any]) -> None:
    with pytest.raises(KvmfleetError, match=r"web01: The memory of the guest is saved .*virsh managedsave-remove") as caught:
        _sealing.stop_unchanged(qemu, Journal(state), record, SHUTDOWN)
    assert caught.value.code == "managed_save"
    assert Journal(state).get(UUID)["step"] == "stopping"


ENDS: dict[str, Callable[..., bool]] = {
    "confirm": lambda *operation: _in_place.confirm(*operation, timeout=1),
    "revert": lambda *operation: _in_place.restore(*operation, status="reverted", shutdown=SHUTDOWN),
}


@pytest.mark.usefixtures("saved")
@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
def test_in_place_the_layers_stay_that_a_saved_guest_needs(qemu: libvirt.virConnect, state: StateDir, record: dict[str, Any], end: Callable[..., bool]) -> None:
    journal = Journal(state)
    with pytest.raises(KvmfleetError, match="managedsave-remove"):
        end(qemu, journal, {**record, "status": "finished", "was_running": False, "private": {}})
    assert journal.get(UUID)["step"] == record["step"]


@pytest.mark.usefixtures("saved")
def test_a_destination_does_not_drop_what_was_saved(qemu: libvirt.virConnect, state: StateDir, record: dict[str, Any]) -> None:
    with pytest.raises(KvmfleetError, match="managedsave-remove"):
        _withdrawing.undefine(qemu, Journal(state), record, SHUTDOWN)
    assert _domains.find_domain(qemu, record["instance_uuid"]) is not None
