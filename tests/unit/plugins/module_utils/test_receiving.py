# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What becomes of a file that has arrived."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.kvmfleet.compute.plugins.module_utils import _incoming, _qemu_img, _receiving
from ansible_collections.kvmfleet.compute.plugins.module_utils._errors import KvmfleetError
from ansible_collections.kvmfleet.compute.plugins.module_utils._journal import Journal
from ansible_collections.kvmfleet.compute.plugins.module_utils._state_dir import StateDir

MIB = 1024**2
DISK: dict[str, Any] = {"target": "vdb", "kind": "disk", "base": None, "bases": [], "grow_to": None, "encrypted": True, "virtual_size": 8 * MIB}
CREATED = {"raw": "luks -o key-secret=s,iter-time=10", "qcow2": "qcow2 -o encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10"}


@pytest.mark.parametrize("image_format", CREATED)
@pytest.mark.parametrize(("grow_to", "size"), [(None, 8), (8, 8), (9, 9)])
def test_an_encrypted_file_grows_to_what_the_guest_is_to_see(
    images: Path, luks: Callable[[str, bytes], None], state: StateDir, image_format: str, grow_to: int | None, size: int
) -> None:
    disk = {**DISK, "path": f"{images}/web", "format": image_format}
    record = {"uuid": "m-1", "image_directories": [str(images)], "disks": [disk]}
    part = _incoming.part_path(record, disk["path"])
    luks(f"-f {CREATED[image_format]} {part} 8M", b"key")
    before = os.path.getsize(part)
    _receiving._adapt(Journal(state), record, {**disk, "grow_to": grow_to and grow_to * MIB}, {}, b"key")
    assert (_qemu_img.luks_size(part) if image_format == "raw" else _qemu_img.info(part, "qcow2").virtual_size) == size * MIB
    assert (os.path.getsize(part) > before) is (size > 8 and image_format == "raw")


def test_one_that_its_key_does_not_open_goes_back(images: Path, luks: Callable[[str, bytes], None], state: StateDir) -> None:
    disk = {**DISK, "path": f"{images}/web", "format": "qcow2"}
    record = {"uuid": "m-1", "image_directories": [str(images)], "disks": [disk]}
    luks(f"-f {CREATED['qcow2']} {_incoming.part_path(record, disk['path'])} 8M", b"key")
    with pytest.raises(KvmfleetError) as caught:
        _receiving._adapt(Journal(state), record, disk, {}, b"another")
    assert caught.value.code == "qemu_img_failed"
