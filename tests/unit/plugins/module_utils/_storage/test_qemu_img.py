# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ansible_collections.kvmfleet.compute.plugins.module_utils._rules.errors import KvmfleetError
from ansible_collections.kvmfleet.compute.plugins.module_utils._storage import qemu_img as _qemu_img

MIB = 1024**2
QemuImg = Callable[[str], str]


@pytest.fixture
def overlay(images: Path, qemu_img: QemuImg) -> Path:
    qemu_img("create -q -f raw base.raw 8M")
    qemu_img(f"create -q -f qcow2 -b {images}/base.raw -F raw disk.qcow2")
    return images / "disk.qcow2"


@pytest.fixture
def in_use(overlay: Path) -> Iterator[Path]:
    """The overlay while another process writes to it."""
    with subprocess.Popen(["qemu-io", "-f", "qcow2", overlay], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdout.read(1)  # the prompt: the image is open
        yield overlay
        process.communicate(b"quit\n")


def code_of(call: Callable[[], object]) -> str:
    with pytest.raises(KvmfleetError) as caught:
        call()
    assert caught.value.message
    return caught.value.code


def test_a_chain_is_read_from_headers_top_first(overlay: Path, images: Path) -> None:
    top, base = _qemu_img.chain(str(overlay), "qcow2", [str(images)])
    assert (top.format, top.virtual_size, top.backing_path, top.backing_format, top.cluster_size) == ("qcow2", 8 * MIB, f"{images}/base.raw", "raw", 65536)
    assert (base.path, base.format, base.file_size, base.backing_path) == (f"{images}/base.raw", "raw", 8 * MIB, None)
    assert top.actual_size == overlay.stat().st_blocks * 512


def test_relative_backing_names_are_resolved_against_the_layer(images: Path, qemu_img: QemuImg) -> None:
    (images / "bases").mkdir()
    (images / "guests").mkdir()
    qemu_img("create -q -f raw bases/base.raw 1M")
    qemu_img("create -q -f qcow2 -b ../bases/base.raw -F raw guests/disk.qcow2")
    assert [layer.path for layer in _qemu_img.chain(f"{images}/guests/disk.qcow2", "qcow2", [str(images)])] == [
        f"{images}/guests/disk.qcow2",
        f"{images}/bases/base.raw",
    ]


def test_an_image_directory_may_itself_be_a_link(overlay: Path, images: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(images)
    assert [layer.path for layer in _qemu_img.chain(f"{link}/disk.qcow2", "qcow2", [str(link)])] == [str(overlay), f"{images}/base.raw"]
    assert code_of(lambda: _qemu_img.chain(f"{link}/disk.qcow2", "qcow2", [str(images)])) == "image_outside_directories"


def test_snapshots_are_named(overlay: Path, qemu_img: QemuImg) -> None:
    qemu_img("snapshot -c before disk.qcow2")
    assert _qemu_img.info(str(overlay), "qcow2").snapshots == ("before",)


@pytest.mark.parametrize(
    ("create", "code"),
    [
        ("create -q -f qcow2 -o data_file=data.raw,data_file_raw=on evil.qcow2 1M", "image_has_data_file"),
        ('create -q -f qcow2 -u -b json:{"driver":"null-co"} -F raw evil.qcow2 1M', "backing_is_json_or_protocol"),
        ("create -q -f qcow2 -u -b nbd://192.0.2.1/x -F raw evil.qcow2 1M", "backing_is_json_or_protocol"),
        ("create -q -f qcow2 -u -b file:base.raw -F raw evil.qcow2 1M", "backing_is_json_or_protocol"),
        ("create -q -f qcow2 -u -b /etc/shadow -F raw evil.qcow2 1M", "backing_outside_directories"),
        ("create -q -f qcow2 -u -b ../outside.raw -F raw evil.qcow2 1M", "backing_outside_directories"),
        ("create -q -f qcow2 -u -b loop.qcow2 -F qcow2 evil.qcow2 1M", "chain_loop"),
        ("create -q -f qcow2 -u -b link.raw -F raw evil.qcow2 1M", "image_is_symlink"),
        ("create -q -f qcow2 -u -b linked/shadow -F raw evil.qcow2 1M", "image_is_symlink"),
        ("create -q -f qcow2 -u -b nothing.raw -F raw evil.qcow2 1M", "image_missing"),
        ("create -q -f qcow2 -u -b directory -F raw evil.qcow2 1M", "not_a_regular_file"),
        ("create -q -f qcow2 -u -b fifo -F raw evil.qcow2 1M", "not_a_regular_file"),
        ("create -q -f qcow2 -u -b base.raw -F vmdk evil.qcow2 1M", "image_format_unsupported"),
        ("create -q -f qcow2 -u -b base.raw -F qcow2 evil.qcow2 1M", "qemu_img_failed"),
        ("create -q -f raw evil.qcow2 1M", "qemu_img_failed"),
    ],
)
def test_hostile_images_are_refused(images: Path, qemu_img: QemuImg, create: str, code: str) -> None:
    qemu_img("create -q -f raw base.raw 1M")
    qemu_img("create -q -f raw ../outside.raw 1M")
    qemu_img("create -q -f qcow2 -u -b evil.qcow2 -F qcow2 loop.qcow2 1M")
    (images / "link.raw").symlink_to("base.raw")
    (images / "linked").symlink_to("/etc")
    (images / "directory").mkdir()
    os.mkfifo(images / "fifo")
    qemu_img(create)
    assert code_of(lambda: _qemu_img.chain(f"{images}/evil.qcow2", "qcow2", [str(images)])) == code


def test_a_data_file_is_refused_before_qemu_img_sees_the_image(images: Path, qemu_img: QemuImg, monkeypatch: pytest.MonkeyPatch) -> None:
    qemu_img("create -q -f qcow2 -o data_file=data.raw disk.qcow2 1M")
    monkeypatch.setenv("PATH", str(images))
    assert code_of(lambda: _qemu_img.info(f"{images}/disk.qcow2", "qcow2")) == "image_has_data_file"


@pytest.mark.invariant(6)
def test_a_guest_that_writes_a_header_into_its_raw_disk_gains_nothing(images: Path, qemu_img: QemuImg) -> None:
    qemu_img("create -q -f qcow2 -u -b /etc/shadow -F raw disk.raw 1M")
    (layer,) = _qemu_img.chain(f"{images}/disk.raw", "raw", [str(images)])
    assert (layer.format, layer.backing_path) == ("raw", None)


def test_a_missing_backing_format_is_refused_with_the_command_that_writes_it(overlay: Path, images: Path) -> None:
    content = overlay.read_bytes()
    overlay.write_bytes(content.replace(bytes.fromhex("E2792ACA"), bytes.fromhex("0A0B0C0D"), 1))
    with pytest.raises(KvmfleetError) as caught:
        _qemu_img.chain(str(overlay), "qcow2", [str(images)])
    assert caught.value.code == "backing_format_missing"
    assert f"qemu-img rebase -u -f qcow2 -b {images}/base.raw -F FORMAT {overlay}" in caught.value.message


def test_endless_chains_are_refused(images: Path, qemu_img: QemuImg) -> None:
    qemu_img("create -q -f qcow2 layer0 1M")
    for number in range(_qemu_img.MAX_DEPTH):
        qemu_img(f"create -q -f qcow2 -u -b layer{number} -F qcow2 layer{number + 1} 1M")
    assert code_of(lambda: _qemu_img.chain(f"{images}/layer{_qemu_img.MAX_DEPTH}", "qcow2", [str(images)])) == "chain_too_deep"


@pytest.mark.invariant(6)
@pytest.mark.parametrize("path", ["disk.qcow2", "/nowhere/disk.qcow2", "/etc/../etc/shadow"])
def test_images_elsewhere_are_not_opened(images: Path, path: str) -> None:
    assert code_of(lambda: _qemu_img.chain(path, "raw", [str(images)])) == "image_outside_directories"


def test_a_linked_image_is_not_followed(overlay: Path, images: Path) -> None:
    (images / "link.qcow2").symlink_to(overlay)
    assert code_of(lambda: _qemu_img.info(f"{images}/link.qcow2", "qcow2")) == "image_is_symlink"


@pytest.mark.parametrize("name", ["with space.qcow2", "-f raw", "a,b=c", "x;touch pwned", "new\nline", "semi:colon"])
def test_names_are_only_names(images: Path, name: str) -> None:
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "--", str(images / name), "1M"], check=True)
    assert _qemu_img.chain(f"{images}/{name}", "qcow2", [str(images)])[0].virtual_size == MIB
    assert _qemu_img.check(f"{images}/{name}", "qcow2") == _qemu_img.CheckResult(leaks=0)
    _qemu_img.resize(f"{images}/{name}", "qcow2", 2 * MIB)
    assert _qemu_img.info(f"{images}/{name}", "qcow2").virtual_size == 2 * MIB


def test_images_grow_and_never_shrink(overlay: Path) -> None:
    _qemu_img.resize(str(overlay), "qcow2", 16 * MIB)
    assert _qemu_img.info(str(overlay), "qcow2").virtual_size == 16 * MIB
    assert code_of(lambda: _qemu_img.resize(str(overlay), "qcow2", 4 * MIB)) == "qemu_img_failed"
    assert _qemu_img.info(str(overlay), "qcow2").virtual_size == 16 * MIB


@pytest.mark.invariant(8)
def test_rebasing_touches_the_header_only(overlay: Path, images: Path) -> None:
    shutil.move(images / "base.raw", images / "moved.raw")
    _qemu_img.rebase_unsafe(str(overlay), "qcow2", f"{images}/moved.raw", "raw")
    assert [layer.path for layer in _qemu_img.chain(str(overlay), "qcow2", [str(images)])] == [str(overlay), f"{images}/moved.raw"]


def test_check_needs_no_backing_file_and_tells_leaks_from_corruption(overlay: Path, images: Path) -> None:
    (images / "base.raw").unlink()
    assert _qemu_img.check(str(overlay), "qcow2").leaks == 0
    with open(overlay, "r+b") as image:  # a reference count for a cluster that nobody uses
        table = int.from_bytes(_at(image, 48, 8), "big")
        block = int.from_bytes(_at(image, table, 8), "big")
        image.seek(block + 2 * 4)
        image.write((1).to_bytes(2, "big"))
        image.truncate(5 * 65536)
    assert _qemu_img.check(str(overlay), "qcow2").leaks == 1
    with open(overlay, "r+b") as image:  # and none for the header
        image.seek(block)
        image.write((0).to_bytes(2, "big"))
    assert code_of(lambda: _qemu_img.check(str(overlay), "qcow2")) == "image_corrupt"


def _at(image: object, offset: int, size: int) -> bytes:
    image.seek(offset)
    return image.read(size)


def test_raw_images_have_nothing_to_check(overlay: Path, images: Path) -> None:
    assert _qemu_img.check(f"{images}/base.raw", "raw") == _qemu_img.CheckResult(leaks=0)


def test_overlays_are_private_and_replace_nothing(overlay: Path, images: Path) -> None:
    path = f"{images}/layer.qcow2"
    _qemu_img.create_overlay(path, str(overlay), "qcow2", 12 * MIB)
    assert os.stat(path).st_mode & 0o777 == 0o600
    assert [layer.virtual_size for layer in _qemu_img.chain(path, "qcow2", [str(images)])] == [12 * MIB, 8 * MIB, 8 * MIB]
    assert code_of(lambda: _qemu_img.create_overlay(path, str(overlay), "qcow2")) == "image_exists"
    assert code_of(lambda: _qemu_img.create_overlay(f"{images}/orphan.qcow2", f"{images}/nothing", "qcow2")) == "qemu_img_failed"
    assert not (images / "orphan.qcow2").exists()


@pytest.mark.invariant(8)
def test_a_commit_reaches_its_base_and_not_the_shared_image_below(overlay: Path, images: Path) -> None:
    shared = (images / "base.raw").read_bytes()
    _qemu_img.create_overlay(f"{images}/layer.qcow2", str(overlay), "qcow2", 16 * MIB)
    subprocess.run(["qemu-io", "-f", "qcow2", "-c", "write -P 7 0 1M", images / "layer.qcow2"], check=True, capture_output=True)
    _qemu_img.commit(f"{images}/layer.qcow2", str(overlay))
    subprocess.run(["qemu-io", "-f", "qcow2", "-c", "read -P 7 0 1M", overlay], check=True, capture_output=True)
    assert _qemu_img.info(str(overlay), "qcow2").virtual_size == 16 * MIB
    assert (images / "base.raw").read_bytes() == shared


def test_qemus_own_lock_tells_that_an_image_is_in_use(in_use: Path) -> None:
    assert code_of(lambda: _qemu_img.assert_not_in_use(str(in_use), "qcow2")) == "image_in_use"
    assert code_of(lambda: _qemu_img.resize(str(in_use), "qcow2", 16 * MIB)) == "image_in_use"
    assert _qemu_img.info(str(in_use), "qcow2", force_share=True).virtual_size == 8 * MIB


def test_an_unused_image_is_not_in_use(overlay: Path) -> None:
    _qemu_img.assert_not_in_use(str(overlay), "qcow2")


def test_a_missing_tool_is_named_with_its_package(overlay: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(KvmfleetError, match="install qemu-utils") as caught:
        _qemu_img.info(str(overlay), "qcow2")
    assert caught.value.code == "qemu_img_missing"


@pytest.mark.parametrize("fmt", ["raw", "qcow2"])
def test_an_encrypted_image_is_checked_and_grown_with_its_key(images: Path, luks: Callable[[str, bytes], None], fmt: str) -> None:
    """What the guest sees grows to the size that was asked for; the header of a raw image comes on top of it."""
    path, key = f"{images}/disk", b"with, comma=\xc3\xa9"
    options = "luks -o key-secret=s,iter-time=10" if fmt == "raw" else "qcow2 -o encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10"
    luks(f"-f {options} disk 8M", key)
    _qemu_img.resize(path, fmt, 12 * MIB, key)
    _qemu_img.check(path, fmt, key)
    assert (_qemu_img.luks_size(path) if fmt == "raw" else _qemu_img.info(path, fmt).virtual_size) == 12 * MIB
    for wrong in (b"wrong", None) if fmt == "qcow2" else (b"wrong",):
        assert code_of(lambda wrong=wrong: _qemu_img.resize(path, fmt, 16 * MIB, wrong)) == "qemu_img_failed"
    assert code_of(lambda: _qemu_img.check(path, fmt, b"wrong")) == "qemu_img_failed"


def test_a_plain_image_is_no_encrypted_one(images: Path, qemu_img: QemuImg) -> None:
    qemu_img("create -q -f raw disk.raw 8M")
    assert code_of(lambda: _qemu_img.luks_size(f"{images}/disk.raw")) == "qemu_img_failed"
