# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""No base image that anything on the host refers to is ever removed, and nothing but base images that were fetched."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.kvmfleet.compute.plugins.module_utils._journal.records import Journal
from ansible_collections.kvmfleet.compute.plugins.module_utils._journal.state_dir import StateDir
from ansible_collections.kvmfleet.compute.plugins.module_utils._libvirt import definitions as _definitions
from ansible_collections.kvmfleet.compute.plugins.module_utils._rules.errors import KvmfleetError
from ansible_collections.kvmfleet.compute.plugins.module_utils._storage import eviction as _eviction, pools as _pools
from ansible_collections.kvmfleet.compute.plugins.module_utils._storage.image_header import backing_name
from ansible_collections.kvmfleet.compute.plugins.module_utils._storage.store import lock_name

DAY = 24 * 3600
A, B, C = (letter * 64 for letter in "abc")


@pytest.fixture
def store(images: Path) -> Path:
    """Three images that were fetched, and what else lies there."""
    directory = images / "_base"
    directory.mkdir()
    for digest in (A, B, C):
        (directory / f"{digest}.raw").write_bytes(bytes(4096) + b"x" * 4096)
    (directory / "README").write_text("mine")
    (directory / f"{'d' * 64}.raw").symlink_to("/etc/passwd")
    return directory


def used(qemu: Any, state: Any, images: Path) -> dict[str, list[str]]:
    """Digest -> its uses, of the images that have any."""
    with _eviction.examined(qemu, state, str(images), []) as (found, uses):
        assert uses.unreadable == {}
        return {image.sha256: image.used_by for image in found if image.used_by}


def define(qemu: Any, disk: str, image_format: str = "qcow2", name: str = "web1") -> Any:
    return _definitions.define(
        qemu,
        f"<domain type='qemu'><name>{name}</name><memory>65536</memory><os><type>hvm</type></os><devices><disk type='file' device='disk'>"
        f"<driver name='qemu' type='{image_format}'/><source file='{disk}'/><target dev='vda' bus='virtio'/></disk></devices></domain>",
    )


def record(state: Any, number: int, role: str, disks: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    fresh = {"uuid": f"u{number}", "owner": "o", "role": role, "source_host": "kvm1", "destination_host": "kvm2", "nvram": None, "disks": disks}
    return Journal(state).begin({**fresh, "instance_uuid": f"i{number}", "instance_name": f"web{number}", **more})


def test_a_store_that_is_a_link_is_not_followed(qemu: Any, state: Any, images: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (images / "_base").symlink_to(elsewhere)
    with pytest.raises(KvmfleetError, match=f"symbolic link .to {elsewhere}") as refused, _eviction.examined(qemu, state, str(images), []):
        pass
    assert refused.value.code == "image_is_symlink"


def test_what_is_there(qemu: Any, state: Any, images: Path, store: Path, qemu_img: Callable[[str], str]) -> None:
    qemu_img(f"create -q -f qcow2 _base/{'e' * 64}.qcow2 3M")
    (store / f"{'f' * 64}.qcow2.part").write_bytes(b"QFI\xfb")
    with _eviction.examined(qemu, state, str(images), []) as (found, _unreadable):
        assert [(image.sha256[0], image.format, image.partial, image.virtual_size, image.used_by) for image in found] == [
            ("a", "raw", False, 8192, []), ("b", "raw", False, 8192, []), ("c", "raw", False, 8192, []),
            ("e", "qcow2", False, 3 * 1024**2, []), ("f", "qcow2", True, None, []),
        ]  # fmt: skip


def test_there_may_be_no_store(qemu: Any, state: Any, images: Path) -> None:
    with _eviction.examined(qemu, state, str(images), []) as (found, _unreadable):
        assert found == []


@pytest.mark.parametrize(
    "backing", ["{store}/{A}.raw", "_base/{A}.raw", "{link}", "mid.qcow2", 'json:{{"driver":"raw","file":{{"driver":"file","filename":"{link}"}}}}']
)
def test_the_disk_of_a_guest_uses_what_it_stands_on(qemu: Any, state: Any, images: Path, store: Path, qemu_img: Callable[[str], str], backing: str) -> None:
    """Absolute, relative, through a link, two layers down, and as JSON."""
    link = images / "golden.img"
    link.symlink_to(store / f"{A}.raw")
    qemu_img(f"create -q -f qcow2 -b {store}/{A}.raw -F raw mid.qcow2")
    name = backing.format(store=store, A=A, link=link)
    image_format = "qcow2" if name == "mid.qcow2" else "raw"
    qemu_img(f"create -q -u -f qcow2 -b {name} -F {image_format} web1.qcow2 1M")
    assert backing_name(str(images / "web1.qcow2")) == name
    define(qemu, str(images / "web1.qcow2"))
    uses = used(qemu, state, images)
    assert set(uses) == {A}
    assert "guest web1" in uses[A]
    assert f"file {images}/web1.qcow2" in uses[A]


def test_a_disk_elsewhere_counts_and_so_does_a_base_that_is_the_disk(qemu: Any, state: Any, images: Path, store: Path, tmp_path: Path, qemu_img: Any) -> None:
    qemu_img(f"create -q -f qcow2 -b {store}/{A}.raw -F raw {tmp_path}/elsewhere.qcow2")
    define(qemu, f"{tmp_path}/elsewhere.qcow2")
    define(qemu, f"{store}/{B}.raw", "raw", name="web2")
    assert used(qemu, state, images) == {A: ["guest web1"], B: ["guest web2"]}


def test_a_volume_counts_and_one_that_nobody_finds_is_named(
    qemu: Any, state: Any, images: Path, store: Path, tmp_path: Path, monkeypatch: Any, qemu_img: Any
) -> None:
    qemu_img(f"create -q -f qcow2 -b {store}/{A}.raw -F raw {tmp_path}/volume.qcow2")
    qemu.defineXML(
        "<domain type='qemu'><name>web1</name><memory>65536</memory><os><type>hvm</type></os><devices><disk type='volume' device='disk'>"
        "<driver name='qemu' type='qcow2'/><source pool='vms' volume='volume.qcow2'/><target dev='vda' bus='virtio'/></disk></devices></domain>"
    )
    with _eviction.examined(qemu, state, str(images), []) as (_found, uses):
        assert uses.unreadable == {"vda of guest web1": "volume disk of format qcow2"}
    monkeypatch.setattr(_pools, "volume_path", lambda _conn, _pool, volume: f"{tmp_path}/{volume}")
    assert used(qemu, state, images) == {A: ["guest web1"]}


def test_an_overlay_that_no_guest_has_counts(qemu: Any, state: Any, images: Path, store: Path, qemu_img: Callable[[str], str]) -> None:
    (images / "archive").mkdir()
    qemu_img(f"create -q -f qcow2 -b {store}/{A}.raw -F raw archive/backup.qcow2")
    assert used(qemu, state, images) == {A: [f"file {images}/archive/backup.qcow2"]}


def test_a_snapshot_counts(qemu: Any, state: Any, images: Path, store: Path, tmp_path: Path, qemu_img: Callable[[str], str]) -> None:
    qemu_img(f"create -q -f qcow2 -b {store}/{A}.raw -F raw {tmp_path}/old.qcow2")
    qemu_img(f"create -q -f qcow2 {tmp_path}/new.qcow2 1M")
    old = define(qemu, f"{tmp_path}/old.qcow2")
    old.snapshotCreateXML("<domainsnapshot><name>before</name><disks><disk name='vda' snapshot='internal'/></disks></domainsnapshot>", 0)
    definition = _definitions.inactive_xml(old).replace("old.qcow2", "new.qcow2")
    _definitions.define(qemu, definition)
    assert used(qemu, state, images) == {A: ["guest web1"]}


def test_open_operations_count_and_closed_ones_do_not(qemu: Any, state: Any, images: Path, store: Path) -> None:
    journal = Journal(state)
    record(state, 1, "destination", [{"base": {"sha256": A, "path": "/elsewhere"}}])
    sealed = record(
        state, 2, "source", [{"base": None, "chain": [["/images/web2.qcow2", "qcow2", 1], [str(store / f"{B}.raw"), "raw", 1]]}], private={"domain_xml": ""}
    )
    closed = record(state, 3, "destination", [{"base": {"sha256": C, "path": "/elsewhere"}}])
    journal.close(closed, "error")
    assert used(qemu, state, images) == {A: ["operation of the destination on web1"], B: ["sealed copy of web2"]}
    journal.update(sealed, status="migrating")
    journal.update(sealed, status="finished")
    assert used(qemu, state, images)[B] == ["sealed copy of web2"]
    journal.update(sealed, status="confirming")
    journal.close(sealed, "confirmed")
    assert set(used(qemu, state, images)) == {A}


def test_a_channel_that_shows_an_image_counts(qemu: Any, state: Any, images: Path, store: Path) -> None:
    files = Path(state.ensure("exports", "u1", "files"))
    (files / f"base-{'0' * 64}").symlink_to(store / f"{A}.raw")
    assert used(qemu, state, images) == {A: ["channel u1"]}


def test_an_image_that_is_being_fetched_or_looked_for_counts(qemu: Any, state: Any, images: Path, store: Path) -> None:
    (store / f"{A}.raw").rename(store / f"{A}.raw.part")
    with state.lock(lock_name(A)), state.lock(lock_name(B)):
        assert used(qemu, state, images) == {A: [_eviction.BUSY], B: [_eviction.BUSY]}
    assert used(qemu, state, images) == {}


def test_while_it_is_examined_nobody_finds_it(qemu: Any, state: Any, images: Path, store: Path) -> None:
    with _eviction.examined(qemu, state, str(images), []), pytest.raises(Exception, match="held by another process"), state.lock(lock_name(A), timeout=0):
        pytest.fail("was let in")


@pytest.mark.parametrize("content", [b"QFI\xfb\0\0\0\3" + b"\xff" * 12, None])
def test_a_disk_that_cannot_be_read_is_named(qemu: Any, state: Any, images: Path, store: Path, content: bytes | None) -> None:
    disk = images / "web1.qcow2"
    if content:
        disk.write_bytes(content)
    define(qemu, str(disk))
    with _eviction.examined(qemu, state, str(images), []) as (_found, uses):
        assert list(uses.unreadable) == ["vda of guest web1"]


def header(name: bytes) -> bytes:
    return b"QFI\xfb" + (3).to_bytes(4, "big") + (512).to_bytes(8, "big") + len(name).to_bytes(4, "big") + bytes(492) + name


@pytest.mark.parametrize(
    "name",
    [b"/dev/zero", b"/proc/kmsg", b"/etc", b"x\0y", b"nbd://host/x", b"json:{", b"json:" + b"[" * 1000, b"\xff\xfe/x", b"web1.qcow2", b"/etc/passwd"],
)
def test_a_hostile_header_names_nothing_that_is_opened(qemu: Any, state: Any, images: Path, store: Path, monkeypatch: pytest.MonkeyPatch, name: bytes) -> None:
    (images / "web1.qcow2").write_bytes(header(name))
    read = os.pread
    opened = []

    def watching(descriptor: int, *arguments: int) -> bytes:
        opened.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        return read(descriptor, *arguments)

    monkeypatch.setattr(os, "pread", watching)
    define(qemu, str(images / "web1.qcow2"))
    with _eviction.examined(qemu, state, str(images), []) as (found, _unreadable):
        assert not [image for image in found if image.used_by]
    assert not [path for path in opened if path.startswith(("/dev", "/proc", "/sys"))]


def test_a_header_that_names_itself_over_and_over_ends(state: Any, images: Path, qemu: Any, store: Path) -> None:
    names = [f"f{number}" for number in range(20)]
    for name in names:
        (images / name).write_bytes(header(b"json:" + json.dumps(names).encode()))
    assert used(qemu, state, images) == {}


def image(number: int, size: int, age: float, *users: str, partial: bool = False) -> _eviction.Image:
    return _eviction.Image(f"/i/{number}", str(number), "raw", partial, size, size, size, 1000 * DAY - age * DAY, list(users))


@pytest.mark.parametrize(
    ("older_than", "keep_bytes", "gone"),
    [
        (0, None, [5, 1, 2, 3]),
        (15, None, [1, 2]),
        (None, 0, [5, 1, 2, 3]),
        (None, 75, [5, 1]),
        (None, 100, []),
        (None, 76, [5, 1]),
        (None, 99, [5]),
        (15, 0, [1, 2]),
        (15, 85, [1]),
        (100, None, []),
    ],
)
def test_who_goes(older_than: float | None, keep_bytes: int | None, gone: list[int]) -> None:
    """Parts first, then by age; never one in use."""
    images = [image(3, 20, 10), image(1, 20, 30), image(2, 30, 20), image(4, 25, 99, "guest web1"), image(5, 5, 1, partial=True)]
    found = _eviction.choose(images, 1000 * DAY, older_than=older_than, keep_bytes=keep_bytes)
    assert [int(chosen.sha256) for chosen in found] == gone


def test_the_last_operation_counts_as_use(qemu: Any, state: Any, images: Path, store: Path) -> None:
    for digest in (A, B):
        os.utime(store / f"{digest}.raw", (0, 0))
    closed = record(state, 1, "source", [{"base": {"sha256": A}}])
    Journal(state).close(closed, "error")
    with _eviction.examined(qemu, state, str(images), []) as (found, _unreadable):
        ages = {image.sha256: time.time() - image.last_used for image in found}
        assert ages[A] < 60
        assert ages[B] > DAY
        assert [image.sha256 for image in _eviction.choose(found, time.time(), older_than=1, keep_bytes=None)] == [B]


def answer(qemu: Any, state: Any, directory: Path, host: str, digests: list[str]) -> dict[str, Any]:
    """What a host says to the others of its uses, as the module does."""
    with _eviction.examined(qemu, state, str(directory), [], sha256s=digests) as (_found, uses):
        return {"host": host, "uses": {digest: {by: sorted(files) for by, files in of.items()} for digest, of in uses.of_contents.items() if of}}


def used_with(qemu: Any, state: Any, images: Path, told: dict[str, Any]) -> dict[str, list[str]]:
    with _eviction.examined(qemu, state, str(images), [], elsewhere=[told]) as (found, _uses):
        return {image.sha256: image.used_by for image in found if image.used_by}


@pytest.fixture
def elsewhere(tmp_path: Path) -> tuple[Any, Path]:
    """Another host: its state and its own directory of disks."""
    (tmp_path / "own").mkdir()
    return StateDir(str(tmp_path / "state-of-another")), tmp_path / "own"


@pytest.mark.parametrize("name", ["{store}/{A}.raw", "{mount}/{A}.raw", "{link}"])
def test_a_base_that_a_guest_of_another_host_stands_on_is_used(
    qemu: Any, state: Any, images: Path, store: Path, elsewhere: tuple[Any, Path], tmp_path: Path, qemu_img: Any, name: str
) -> None:
    """Under the same path, where that host has mounted the directory, and through a link of its own."""
    there, own = elsewhere
    (tmp_path / "mount").symlink_to(store)
    (tmp_path / "golden.img").symlink_to(store / f"{A}.raw")
    backing = name.format(store=store, mount=tmp_path / "mount", link=tmp_path / "golden.img", A=A)
    qemu_img(f"create -q -f qcow2 -b {backing} -F raw {own}/web1.qcow2")
    told = answer(qemu, there, own, "kvm2", [A, B, C])
    assert used(qemu, state, images) == {}
    assert used_with(qemu, state, images, told) == {A: [f"file {own}/web1.qcow2 on kvm2"]}


def test_a_copy_that_another_host_fetched_for_itself_is_not_this_one(
    qemu: Any, state: Any, images: Path, store: Path, elsewhere: tuple[Any, Path], qemu_img: Any
) -> None:
    there, own = elsewhere
    (own / "_base").mkdir()
    (own / "_base" / f"{A}.raw").write_bytes((store / f"{A}.raw").read_bytes())
    os.utime(own / "_base" / f"{A}.raw", (time.time() - 100, time.time() - 100))
    qemu_img(f"create -q -f qcow2 -b {own}/_base/{A}.raw -F raw {own}/web1.qcow2")
    told = answer(qemu, there, own, "kvm2", [A])
    assert told["uses"][A]
    assert used_with(qemu, state, images, told) == {}


def test_a_use_whose_file_nobody_finds_counts(qemu: Any, state: Any, images: Path, store: Path, elsewhere: tuple[Any, Path], qemu_img: Any) -> None:
    """Its storage is not mounted now, or the host is about to look for the base."""
    there, own = elsewhere
    qemu_img(f"create -q -u -f qcow2 -b /not/mounted/{A}.raw -F raw {own}/web1.qcow2 1M")
    record(there, 1, "destination", [{"base": {"sha256": B, "path": "/elsewhere"}}])
    told = answer(qemu, there, own, "kvm2", [A, B, C])
    assert used_with(qemu, state, images, told) == {A: [f"file {own}/web1.qcow2 on kvm2"], B: ["operation of the destination on web1 on kvm2"]}


def test_what_another_host_fetches_into_a_shared_store_is_left_to_it(qemu: Any, state: Any, images: Path, store: Path, elsewhere: tuple[Any, Path]) -> None:
    there, _own = elsewhere
    for host in (state, there):
        (store / f"{A}.raw.{host.identity()}.part").write_bytes(b"x")
    old = store / f"{B}.raw.{there.identity()}.part"
    old.write_bytes(b"x")
    os.utime(old, (time.time() - 2 * DAY,) * 2)
    with _eviction.examined(qemu, state, str(images), []) as (found, _uses):
        partial = {os.path.basename(image.path): image.used_by for image in found if image.partial}
    assert partial == {f"{A}.raw.{state.identity()}.part": [], f"{A}.raw.{there.identity()}.part": [_eviction.BUSY_ELSEWHERE], old.name: []}


def test_an_image_that_another_host_has_removed_meanwhile_is_gone(qemu: Any, state: Any, images: Path, store: Path) -> None:
    with _eviction.examined(qemu, state, str(images), []) as (found, _uses):
        (store / f"{A}.raw").unlink()
        _eviction.remove(state, found)
    assert sorted(path.name for path in store.iterdir()) == ["README", f"{'d' * 64}.raw"]
