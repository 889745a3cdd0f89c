# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.kvmfleet.compute.plugins.module_utils._operation import sealing as _sealing
from ansible_collections.kvmfleet.compute.plugins.module_utils._rules.errors import KvmfleetError
from ansible_collections.kvmfleet.compute.plugins.module_utils._storage import qemu_img as _qemu_img


class Domain:
    """A guest that runs or can be started."""

    def __init__(self, active: bool = False) -> None:
        self.active = active
        self.started = 0

    def isActive(self) -> bool:  # noqa: N802
        return self.active

    def maxMemory(self) -> int:  # noqa: N802
        return 65536

    def create(self) -> None:
        self.active = True
        self.started += 1


@pytest.fixture
def record(images: Path, qemu_img: Callable[[str], str]) -> dict[str, Any]:
    """Of an operation on a guest with one overlay."""
    qemu_img("create -q -f raw base.raw 1M")
    qemu_img(f"create -q -f qcow2 -b {images}/base.raw -F raw disk.qcow2")
    path = f"{images}/disk.qcow2"
    chain = [[layer.path, layer.format, layer.virtual_size] for layer in _qemu_img.chain(path, "qcow2", [str(images)])]
    disk = {"kind": "disk", "path": path, "format": "qcow2", "virtual_size": 1048576, "chain": chain}
    return {"instance_name": "web", "image_directories": [str(images)], "disks": [disk]}


def test_a_restored_guest_is_started_on_what_was_planned(record: dict[str, Any]) -> None:
    domain = Domain()
    _sealing.start_unchanged(domain, record)
    assert domain.started == 1


@pytest.mark.parametrize(
    ("rewritten", "code"),
    [
        ("rebase -q -u -f qcow2 -b /etc/shadow -F raw disk.qcow2", "backing_outside_directories"),
        ("rebase -q -u -f qcow2 -b {images}/base.raw -F qcow2 disk.qcow2", "qemu_img_failed"),
        ("resize -q -f qcow2 disk.qcow2 2M", "chain_changed"),
        ("create -q -f qcow2 disk.qcow2 1M", "chain_changed"),
    ],
)
def test_a_guest_whose_image_was_rewritten_stays_off(record: dict[str, Any], images: Path, qemu_img: Callable[[str], str], rewritten: str, code: str) -> None:
    qemu_img(rewritten.format(images=images))
    domain = Domain()
    with pytest.raises(KvmfleetError) as caught:
        _sealing.start_unchanged(domain, record)
    assert caught.value.code == code
    assert "web is as before on this host but stays off" in caught.value.message
    assert domain.started == 0


def test_a_guest_that_runs_is_left_alone(record: dict[str, Any], qemu_img: Callable[[str], str]) -> None:
    """Its image is open in its own process."""
    qemu_img("resize -q -f qcow2 disk.qcow2 2M")
    domain = Domain(active=True)
    _sealing.start_unchanged(domain, record)
    assert domain.started == 0
