# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A merge that is given up may go on in QEMU: that takes the guest nowhere, and the next one takes it up."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import libvirt
import pytest

from ansible_collections.kvmfleet.compute.plugins.module_utils._journal.records import Journal
from ansible_collections.kvmfleet.compute.plugins.module_utils._journal.state_dir import StateDir
from ansible_collections.kvmfleet.compute.plugins.module_utils._libvirt import blocks as _blocks
from ansible_collections.kvmfleet.compute.plugins.module_utils._operation import in_place as _in_place
from ansible_collections.kvmfleet.compute.plugins.module_utils._rules.errors import KvmfleetError
from ansible_collections.kvmfleet.compute.tests.unit.plugins.module_utils import booted

CUT = {"timeout": 0, "retry_interval": 1, "on_timeout": "destroy", "modes": ["acpi"]}


def test_a_merge_that_stalls_leaves_the_guest_on_its_layer_and_is_taken_up(
    qemu: libvirt.virConnect, state: StateDir, images: Path, guest: Callable[..., Any], qemu_img: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    qemu_img("create -q -f qcow2 web1.qcow2 8M")
    domain, journal = guest("web1", {"vda": f"{images}/web1.qcow2"}, running=True), Journal(state)
    record = booted.record_of(journal, domain, "in_place", images)
    _in_place.resize(qemu, journal, record, shutdown=CUT, watch={"settle": 0, "agent_timeout": 0})
    record = journal.get(record["uuid"])
    layer, domain = _in_place.layer_path(record, record["disks"][0]), qemu.lookupByName("web1")

    def slowly(domain: libvirt.virDomain, target: str, *, base: str, top: str) -> None:
        flags = libvirt.VIR_DOMAIN_BLOCK_COMMIT_ACTIVE | libvirt.VIR_DOMAIN_BLOCK_COMMIT_BANDWIDTH_BYTES
        domain.blockCommit(target, base, top, 1, flags)

    with monkeypatch.context() as patch:
        patch.setattr(_blocks, "begin_commit", slowly)
        patch.setattr(_blocks, "pivot", lambda domain, target: False)
        with pytest.raises(KvmfleetError, match="The guest runs on the layer, and the merge waits in QEMU") as caught:
            _in_place.confirm(qemu, journal, record, timeout=0.5)
    assert caught.value.code == "commit_stalled"
    assert (domain.isActive(), f"<source file='{layer}'" in domain.XMLDesc(0), journal.get(record["uuid"])["status"]) == (True, True, "confirming")
    assert _in_place.confirm(qemu, journal, journal.get(record["uuid"]), timeout=30)
    assert (journal.get(record["uuid"])["status"], layer in domain.XMLDesc(0), Path(layer).exists()) == ("confirmed", False, False)
