# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Who claims waits for nobody but those who decide."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import libvirt
import pytest

from ansible_collections.kvmfleet.compute.plugins.module_utils._host.state import Reserved
from ansible_collections.kvmfleet.compute.plugins.module_utils._journal import claims as _claims
from ansible_collections.kvmfleet.compute.plugins.module_utils._journal.records import Journal
from ansible_collections.kvmfleet.compute.plugins.module_utils._journal.state_dir import StateDir
from ansible_collections.kvmfleet.compute.plugins.module_utils._operation import admission as _admission
from ansible_collections.kvmfleet.compute.plugins.module_utils._rules.errors import KvmfleetError
from ansible_collections.kvmfleet.compute.plugins.module_utils._storage.kinds.network import Network


def test_servers_of_network_disks_are_tried_before_anybody_has_to_wait(
    qemu: libvirt.virConnect, state: StateDir, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def unreachable(_kind: Network, requirements: Any) -> Iterator[tuple[str, str]]:
        with state.lock(_claims.LOCK, timeout=0):
            asked.append(requirements["network_disks"])
        yield "server_unreachable", "no server of disk vda takes a connection from here: store1:10809"

    monkeypatch.setattr(Network, "unreachable", unreachable)
    flavor = {"name": "m1", "vcpus": 1, "ram": 64, "disk": 0, "ephemeral": 0, "swap": 0, "extra_specs": {}}
    parties = {"source_host": "kvm1", "destination_host": "kvm2", "instance_uuid": "11111111-2222-4333-8444-555555555555", "instance_name": "web1"}
    record = {"uuid": "m-1", "owner": "run-1", "role": "destination", "disks": [], "nvram": None, "new_flavor": flavor, **parties}
    requirements = {
        "macs": [], "networks": [], "bridges": [], "machine": None, "arch": "x86_64", "virt_type": "qemu", "network_disks": ["vda"],
        **dict.fromkeys(("emulator", "loader", "nvram_template")),
    }  # fmt: skip
    with pytest.raises(KvmfleetError, match="no server of disk vda takes a connection") as caught:
        _admission.admit(
            qemu, Journal(state), record, requirements=requirements, images_path=str(images), reserved=Reserved(0, 0, 0),
            ratios={"cpu": 16.0, "ram": 1.5, "disk": 1.0}, proofs={}, key=None,
        )  # fmt: skip
    assert (asked, caught.value.code) == ([["vda"]], "claim_refused")
