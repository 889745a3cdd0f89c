# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import hashlib
import os
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.kvmfleet.compute.plugins.module_utils import _identity
from ansible_collections.kvmfleet.compute.plugins.module_utils._errors import KvmfleetError
from ansible_collections.kvmfleet.compute.plugins.module_utils._state_dir import StateDir


@pytest.fixture
def base(images: Path) -> Path:
    path = images / "base.raw"
    with open(path, "wb") as image:
        image.write(b"boot")
        image.truncate(9 * 1024**2 + 512)
        image.seek(5 * 1024**2)
        image.write(b"data")
    return path


@pytest.fixture
def readings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """How often a file was read completely; files count as settled at once."""
    read = _identity._sha256
    calls: list[str] = []

    def counting(stream: Any) -> str:
        calls.append(stream.name)
        return read(stream)

    monkeypatch.setattr(_identity, "_sha256", counting)
    monkeypatch.setattr(_identity, "_SETTLED", -1.0)
    return calls


def test_identity_is_content_format_and_size(state: StateDir, base: Path) -> None:
    size = 9 * 1024**2 + 512
    assert _identity.identity(state, str(base), "raw") == {
        "sha256": hashlib.sha256(base.read_bytes()).hexdigest(),
        "format": "raw",
        "virtual_size": size,
        "size_bytes": size,
    }


def test_a_file_is_read_once_until_it_changes(state: StateDir, base: Path, readings: list[str]) -> None:
    first = _identity.digest(state, str(base))
    assert _identity.digest(state, str(base)) == first
    assert len(readings) == 1
    stamps = base.stat()
    with open(base, "r+b") as image:
        image.write(b"Boot")
    os.utime(base, ns=(stamps.st_atime_ns, stamps.st_mtime_ns))  # same name, size, inode and modification time
    assert _identity.digest(state, str(base)) != first
    assert len(readings) == 2


def test_a_replaced_file_is_read_again(state: StateDir, base: Path, readings: list[str]) -> None:
    first = _identity.digest(state, str(base))
    other = base.with_name("other")
    other.write_bytes(base.read_bytes()[:-1] + b"x")
    os.replace(other, base)
    assert _identity.digest(state, str(base)) != first


def test_what_was_just_written_is_not_kept(state: StateDir, base: Path) -> None:
    _identity.digest(state, str(base))
    assert state.read_all("digests") == []


def test_two_readers_read_once(state: StateDir, base: Path, readings: list[str]) -> None:
    threads = [threading.Thread(target=_identity.digest, args=(state, str(base))) for _number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(readings) == 1


def test_a_file_that_changes_while_it_is_read_is_refused(state: StateDir, base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = _identity._sha256

    def and_then_somebody_writes(stream: Any) -> str:
        value = read(stream)
        time.sleep(0.02)
        with open(base, "ab") as image:
            image.write(b"!")
        return value

    monkeypatch.setattr(_identity, "_sha256", and_then_somebody_writes)
    with pytest.raises(KvmfleetError) as caught:
        _identity.digest(state, str(base))
    assert caught.value.code == "image_changed"
    assert state.read_all("digests") == []


def test_a_base_of_the_same_name_and_size_with_other_content_is_refused(state: StateDir, base: Path) -> None:
    expected = _identity.identity(state, str(base), "raw")
    _identity.require(state, str(base), expected)
    base.write_bytes(base.read_bytes()[::-1])
    with pytest.raises(KvmfleetError) as caught:
        _identity.require(state, str(base), expected)
    assert caught.value.code == "base_differs"
    assert caught.value.details["need"] == expected["sha256"]


def test_a_base_of_another_virtual_size_is_refused(state: StateDir, images: Path, qemu_img: Callable[[str], str]) -> None:
    qemu_img("create -q -f qcow2 base.qcow2 1M")
    expected = _identity.identity(state, f"{images}/base.qcow2", "qcow2")
    with pytest.raises(KvmfleetError, match="virtual_size"):
        _identity.require(state, f"{images}/base.qcow2", {**expected, "virtual_size": 2 * 1024**2})


def test_an_image_that_somebody_writes_to_has_no_identity(state: StateDir, images: Path, qemu_img: Callable[[str], str]) -> None:
    qemu_img("create -q -f qcow2 base.qcow2 1M")
    with subprocess.Popen(["qemu-io", "-f", "qcow2", images / "base.qcow2"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdout.read(1)
        with pytest.raises(KvmfleetError) as caught:
            _identity.identity(state, f"{images}/base.qcow2", "qcow2")
        process.communicate(b"quit\n")
    assert caught.value.code == "image_in_use"
