# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What becomes of a file that has arrived."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.kvmfleet.compute.plugins.module_utils._journal.records import Journal
from ansible_collections.kvmfleet.compute.plugins.module_utils._journal.state_dir import StateDir
from ansible_collections.kvmfleet.compute.plugins.module_utils._operation import receiving as _receiving
from ansible_collections.kvmfleet.compute.plugins.module_utils._rules.errors import KvmfleetError
from ansible_collections.kvmfleet.compute.plugins.module_utils._storage import incoming as _incoming, qemu_img as _qemu_img

MIB = 1024**2
PLAIN: dict[str, Any] = {"target": "vdb", "kind": "disk", "base": None, "bases": [], "grow_to": None, "virtual_size": 8 * MIB, "allocated_bytes": 0}
DISK: dict[str, Any] = {**PLAIN, "encrypted": True}
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


@pytest.fixture
def arrived(images: Path, state: StateDir) -> Callable[..., tuple[dict[str, Any], str]]:
    """A file of 8 MiB that has arrived with 1 MiB of data and holes, and what has become of it: the record, and the path of the file."""

    def adapt(image_format: str, allocated: int, grow_to: int | None = None) -> tuple[dict[str, Any], str]:
        journal = Journal(state)
        disk = {**PLAIN, "path": f"{images}/web", "format": image_format, "allocated_bytes": allocated, "grow_to": grow_to}
        who = {"uuid": "m-1", "role": "destination", "instance_uuid": "i-1", "instance_name": "web"}
        record = journal.begin({**who, "image_directories": [str(images)], "disks": [disk], "nvram": None})
        part = _incoming.part_path(record, disk["path"])
        subprocess.run(["qemu-img", "create", "-q", "-f", image_format, part, "8M"], check=True)
        subprocess.run(["qemu-io", "-f", image_format, "-c", "write -q -P 7 2M 1M", part], check=True)
        if image_format == "qcow2":
            os.truncate(part, 9 * MIB)
        return _receiving._adapt(journal, record, disk, {}, None), part

    return adapt


@pytest.mark.parametrize("image_format", ["raw", "qcow2"])
def test_a_disk_that_had_all_of_its_room_has_it_where_it_arrives(arrived: Callable[..., tuple[dict[str, Any], str]], image_format: str) -> None:
    """Not one byte more, and its data is what it was."""
    _record, part = arrived(image_format, 8 * MIB)
    status = os.stat(part)
    assert status.st_blocks * 512 >= status.st_size >= 8 * MIB
    subprocess.run(["qemu-io", "-f", image_format, "-c", "read -q -P 0 0 2M", "-c", "read -q -P 7 2M 1M", "-c", "read -q -P 0 3M 5M", part], check=True)


def test_one_that_took_what_it_needed_stays_thin(arrived: Callable[..., tuple[dict[str, Any], str]]) -> None:
    _record, part = arrived("raw", 8 * MIB - 1)
    assert os.stat(part).st_blocks * 512 <= 2 * MIB


def test_what_a_flavor_adds_is_not_set_aside(arrived: Callable[..., tuple[dict[str, Any], str]]) -> None:
    _record, part = arrived("raw", 8 * MIB, grow_to=64 * MIB)
    assert (os.path.getsize(part), os.stat(part).st_blocks * 512 < 16 * MIB) == (64 * MIB, True)


def test_without_that_much_room_it_arrives_thin_and_the_record_says_so(arrived: Callable[..., tuple[dict[str, Any], str]]) -> None:
    record, part = arrived("raw", 2**62)
    assert os.stat(part).st_blocks * 512 <= 2 * MIB
    assert "vdb: no room is set aside for the whole disk" in record["history"][-1]["note"]
