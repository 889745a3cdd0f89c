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

from ansible_collections.kvmfleet.compute.plugins.module_utils._journal.state_dir import StateDir
from ansible_collections.kvmfleet.compute.plugins.module_utils._rules.errors import KvmfleetError
from ansible_collections.kvmfleet.compute.plugins.module_utils._storage import identity as _identity, qemu_img as _qemu_img


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

    def counting(stream: Any, *options: Any) -> str:
        calls.append(stream.name)
        return read(stream, *options)

    monkeypatch.setattr(_identity, "_sha256", counting)
    monkeypatch.setattr(_identity, "_SETTLED", -1.0)
    return calls


def test_identity_is_content_format_and_size(state: StateDir, base: Path) -> None:
    size = 9 * 1024**2 + 512
    assert _identity.content_id(state, str(base), "raw", [str(base.parent)]) == {
        "sha256": hashlib.sha256(base.read_bytes()).hexdigest(),
        "format": "raw",
        "virtual_size": size,
        "size_bytes": size,
    }


def test_a_file_is_read_once_until_it_changes(state: StateDir, base: Path, readings: list[str]) -> None:
    first = _identity.sha256(state, str(base))
    assert _identity.sha256(state, str(base)) == first
    assert len(readings) == 1
    stamps = base.stat()
    with open(base, "r+b") as image:
        image.write(b"Boot")
    os.utime(base, ns=(stamps.st_atime_ns, stamps.st_mtime_ns))  # same name, size, inode and modification time
    assert _identity.sha256(state, str(base)) != first
    assert len(readings) == 2


def test_a_replaced_file_is_read_again(state: StateDir, base: Path, readings: list[str]) -> None:
    first = _identity.sha256(state, str(base))
    other = base.with_name("other")
    other.write_bytes(base.read_bytes()[:-1] + b"x")
    os.replace(other, base)
    assert _identity.sha256(state, str(base)) != first


def test_what_was_just_written_is_not_kept(state: StateDir, base: Path) -> None:
    _identity.sha256(state, str(base))
    assert state.read_all("digests") == []


def test_two_readers_read_once(state: StateDir, base: Path, readings: list[str]) -> None:
    threads = [threading.Thread(target=_identity.sha256, args=(state, str(base))) for _number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(readings) == 1


def test_a_file_that_changes_while_it_is_read_is_refused(state: StateDir, base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = _identity._sha256

    def and_then_somebody_writes(stream: Any, *options: Any) -> str:
        value = read(stream, *options)
        time.sleep(0.02)
        with open(base, "ab") as image:
            image.write(b"!")
        return value

    monkeypatch.setattr(_identity, "_sha256", and_then_somebody_writes)
    with pytest.raises(KvmfleetError) as caught:
        _identity.sha256(state, str(base))
    assert caught.value.code == "image_changed"
    assert state.read_all("digests") == []


@pytest.mark.invariant(5)
def test_a_base_of_the_same_name_and_size_with_other_content_is_refused(state: StateDir, base: Path) -> None:
    expected = _identity.content_id(state, str(base), "raw", [str(base.parent)])
    _identity.require(state, str(base), expected, [str(base.parent)])
    base.write_bytes(base.read_bytes()[::-1])
    with pytest.raises(KvmfleetError) as caught:
        _identity.require(state, str(base), expected, [str(base.parent)])
    assert caught.value.code == "base_differs"
    assert caught.value.details["need"] == expected["sha256"]


def test_a_base_of_another_virtual_size_is_refused(state: StateDir, images: Path, qemu_img: Callable[[str], str]) -> None:
    qemu_img("create -q -f qcow2 base.qcow2 1M")
    expected = _identity.content_id(state, f"{images}/base.qcow2", "qcow2", [str(images)])
    with pytest.raises(KvmfleetError, match="virtual_size"):
        _identity.require(state, f"{images}/base.qcow2", {**expected, "virtual_size": 2 * 1024**2}, [str(images)])


def test_an_image_that_somebody_writes_to_has_no_identity(state: StateDir, images: Path, qemu_img: Callable[[str], str]) -> None:
    qemu_img("create -q -f qcow2 base.qcow2 1M")
    with subprocess.Popen(["qemu-io", "-f", "qcow2", images / "base.qcow2"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdout.read(1)
        with pytest.raises(KvmfleetError) as caught:
            _identity.content_id(state, f"{images}/base.qcow2", "qcow2", [str(images)])
        process.communicate(b"quit\n")
    assert caught.value.code == "image_in_use"


@pytest.fixture
def layers(images: Path, qemu_img: Callable[[str], str]) -> list[str]:
    """Three layers, the lowest last."""
    qemu_img("create -q -f qcow2 low.qcow2 8M")
    qemu_img("create -q -f qcow2 -b low.qcow2 -F qcow2 middle.qcow2")
    qemu_img("create -q -f qcow2 -b middle.qcow2 -F qcow2 -o cluster_size=4k top.qcow2")
    for number, name in enumerate(("low", "middle", "top")):
        write(images / f"{name}.qcow2", number, f"0x1{number}")
    return [f"{images}/{name}.qcow2" for name in ("top", "middle", "low")]


def write(image: Path, mib: int, pattern: str) -> None:
    subprocess.run(["qemu-io", "-f", "qcow2", "-c", f"write -P {pattern} {mib}M 1M", str(image)], check=True, capture_output=True)


def sums(state: StateDir, path: str, images: Path) -> list[str]:
    return [found["sha256"] for found in _identity.content_ids(state, _qemu_img.chain(path, "qcow2", [str(images)]))]


@pytest.mark.parametrize("name", ["elsewhere.qcow2", "a-much-longer-name-than-it-had-before-" + "x" * 150 + ".qcow2"])
def test_a_layer_is_the_same_on_the_same_layers_whatever_their_names(
    state: StateDir, images: Path, layers: list[str], qemu_img: Callable[[str], str], name: str
) -> None:
    before = sums(state, layers[0], images)
    assert len(set(before)) == 3
    os.rename(layers[1], images / name)
    qemu_img(f"rebase -u -f qcow2 -b {images}/{name} -F qcow2 top.qcow2")
    assert sums(state, layers[0], images) == before


def test_what_is_written_below_changes_the_identity_of_every_layer_above(state: StateDir, images: Path, layers: list[str], readings: list[str]) -> None:
    before = sums(state, layers[0], images)
    readings.clear()
    write(images / "middle.qcow2", 5, "0x55")
    after = sums(state, layers[0], images)
    assert [old == new for old, new in zip(before, after)] == [False, False, True]
    assert readings == [layers[1]]  # each file is still read once
    assert {known["path"]: known["sha256"] for known in _identity.known(state)} == dict(zip(layers, after))


def test_the_same_layer_on_another_base_is_another_image(state: StateDir, images: Path, layers: list[str], qemu_img: Callable[[str], str]) -> None:
    before = sums(state, layers[0], images)
    qemu_img("create -q -f qcow2 other.qcow2 8M")
    qemu_img("rebase -u -f qcow2 -b other.qcow2 -F qcow2 middle.qcow2")
    assert not set(sums(state, layers[0], images)) & set(before)


def test_a_layer_with_bitmaps_is_refused(state: StateDir, images: Path, layers: list[str], qemu_img: Callable[[str], str]) -> None:
    qemu_img("bitmap --add -f qcow2 middle.qcow2 backup")
    with pytest.raises(KvmfleetError) as caught:
        sums(state, layers[0], images)
    assert caught.value.code == "image_has_bitmaps"


@pytest.mark.parametrize("header", [b"", b"QFI", b"QFI\xfb" + bytes(108), b"QFI\xfb\0\0\0\3" + bytes(12) + b"\0\0\0\x3f", b"raw!" * 30])
def test_a_header_that_is_none_is_refused(state: StateDir, images: Path, header: bytes) -> None:
    (images / "bad").write_bytes(header)
    with pytest.raises(KvmfleetError) as caught:
        _identity.sha256(state, str(images / "bad"), {"sha256": "0" * 64, "format": "raw"})
    assert caught.value.code == "image_corrupt"


def test_what_is_known_is_told_without_a_look_into_the_files(state: StateDir, images: Path, layers: list[str], readings: list[str]) -> None:
    """And nothing is written: a host that nobody has prepared stays as it is."""
    chain = _qemu_img.chain(layers[0], "qcow2", [str(images)])
    assert _identity.known_content_ids(state, chain) == [None, None, None]
    assert not os.path.exists(state.path)
    known = _identity.content_ids(state, chain)
    readings.clear()
    assert _identity.known_content_ids(state, chain) == known
    write(images / "middle.qcow2", 5, "0x55")
    assert _identity.known_content_ids(state, chain) == [None, None, known[2]]
    assert readings == []
