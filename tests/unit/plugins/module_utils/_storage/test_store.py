# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Base images are found and fetched by what they contain."""

from __future__ import annotations

import ast
import hashlib
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.kvmfleet.compute.plugins.module_utils._journal.state_dir import StateDir
from ansible_collections.kvmfleet.compute.plugins.module_utils._rules.errors import KvmfleetError
from ansible_collections.kvmfleet.compute.plugins.module_utils._storage import eviction as _eviction, identity as _identity
from ansible_collections.kvmfleet.compute.plugins.module_utils._storage.store import ImageStore
from ansible_collections.kvmfleet.compute.tests.unit.plugins.module_utils.sources import sources

KINDS = {"raw": "", "qcow2": "-o cluster_size=64k", "compressed": "-c"}


@pytest.fixture(params=KINDS)
def content(request: pytest.FixtureRequest, tmp_path: Path, qemu_img: Callable[[str], str]) -> Path:
    """An image of each kind, elsewhere."""
    plain, made = tmp_path / "plain", tmp_path / "made"
    plain.write_bytes(b"boot" * 20_000 + bytes(2**20))
    image_format = "raw" if request.param == "raw" else "qcow2"
    qemu_img(f"convert -f raw -O {image_format} {KINDS[request.param]} {plain} {made}")
    return made


@pytest.fixture
def base(content: Path, state: Any) -> dict[str, Any]:
    image_format = "qcow2" if content.read_bytes()[:4] == b"QFI\xfb" else "raw"
    return {**_identity.content_id(state, str(content), image_format, [str(content.parent)]), "path": "/elsewhere/base.img", "backing": None}


@pytest.fixture
def store(state: Any, images: Path) -> ImageStore:
    return ImageStore(state, str(images), [str(images)], set())


def copy_of(content: Path, log: list[str]) -> Callable[[str, int], int]:
    """Goes on with what is there, as a download does."""

    def fill(path: str, size: int) -> int:
        log.append(path)
        data = content.read_bytes()
        assert len(data) == size
        there = os.path.getsize(path) if os.path.exists(path) else 0
        with open(path, "ab") as stream:
            stream.write(data[there:])
        return size - there

    return fill


def in_store(images: Path) -> list[str]:
    return sorted(os.listdir(images / "_base"))


def test_what_is_fetched_is_named_by_its_content_and_read_only(store: ImageStore, base: dict[str, Any], content: Path, images: Path, state: Any) -> None:
    assert store.look(base) is None
    path, sent = store.fetch(base, copy_of(content, []))
    assert (path, sent) == (f"{images}/_base/{base['sha256']}.{base['format']}", base["size_bytes"])
    assert Path(path).read_bytes() == content.read_bytes()
    assert os.stat(path).st_mode & 0o777 == 0o444
    assert store.look(base) == path
    assert [(known["path"], known["sha256"]) for known in _identity.known(state) if known["path"] == path] == [(path, base["sha256"])]


def test_what_is_fetched_is_not_read_again_while_a_guest_is_down(
    store: ImageStore, base: dict[str, Any], content: Path, state: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, _sent = store.fetch(base, copy_of(content, []))
    monkeypatch.setattr(_identity, "_sha256", lambda *options: pytest.fail("was read again"))
    _identity.require(state, path, base, store.directories)


def test_one_fetch_for_all_that_wait(store: ImageStore, base: dict[str, Any], content: Path) -> None:
    filled: list[str] = []
    answers: list[tuple[str, int]] = []
    threads = [threading.Thread(target=lambda: answers.append(store.fetch(base, copy_of(content, filled)))) for _number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(filled) == 1
    assert len({path for path, _sent in answers}) == 1
    assert sum(sent for _path, sent in answers) == base["size_bytes"]


def test_other_content_is_thrown_away(store: ImageStore, base: dict[str, Any], content: Path, images: Path) -> None:
    content.write_bytes(content.read_bytes()[:-1] + b"x")
    with pytest.raises(KvmfleetError) as caught:
        store.fetch(base, copy_of(content, []))
    assert caught.value.code == "base_differs"
    assert in_store(images) == []


def test_a_part_that_is_wrong_is_fetched_anew_and_a_right_one_is_continued(store: ImageStore, base: dict[str, Any], content: Path, images: Path) -> None:
    (images / "_base").mkdir()
    part = images / "_base" / f"{base['sha256']}.{base['format']}.{store.state.identity()}.part"
    part.write_bytes(b"wrong")
    filled: list[str] = []
    path, sent = store.fetch(base, copy_of(content, filled))
    assert len(filled) == 2
    assert sent == 2 * base["size_bytes"] - 5
    os.unlink(path)

    part.write_bytes(content.read_bytes()[:-100])
    assert store.fetch(base, copy_of(content, filled)) == (path, 100)
    assert hashlib.sha256(Path(path).read_bytes()).hexdigest() == base["sha256"]
    assert len(filled) == 3


@pytest.mark.parametrize("planted", ["_base", "part"])
def test_a_planted_link_is_not_followed(store: ImageStore, base: dict[str, Any], content: Path, images: Path, tmp_path: Path, planted: str) -> None:
    elsewhere = tmp_path / "elsewhere"
    if planted == "_base":
        elsewhere.mkdir()
        (images / "_base").symlink_to(elsewhere)
    else:
        elsewhere.write_text("precious")
        (images / "_base").mkdir()
        (images / "_base" / f"{base['sha256']}.{base['format']}.{store.state.identity()}.part").symlink_to(elsewhere)
    with pytest.raises(KvmfleetError) as refused:
        store.fetch(base, copy_of(content, []))
    assert refused.value.code == "image_is_symlink"
    assert str(elsewhere) in refused.value.message
    assert list(elsewhere.iterdir()) == [] if planted == "_base" else elsewhere.read_text() == "precious"


@pytest.mark.parametrize(
    ("code", "left"), [("download_broke", 1), ("copy_failed", 1), ("copy_stalled", 1), ("no_space", 1), ("download_refused", 0), ("verification_failed", 0)]
)
def test_only_what_broke_leaves_something(store: ImageStore, base: dict[str, Any], images: Path, code: str, left: int) -> None:
    def fill(path: str, _size: int) -> int:
        Path(path).write_bytes(b"begun")
        raise KvmfleetError(code, "no")

    with pytest.raises(KvmfleetError):
        store.fetch(base, fill)
    assert len(in_store(images)) == left
    assert store.look(base) is None


@pytest.mark.parametrize("wrong", ["virtual_size", "format"])
def test_the_guest_must_see_the_same_too(store: ImageStore, base: dict[str, Any], content: Path, images: Path, wrong: str) -> None:
    """The bytes are right, and read as something else they are no base."""
    other = {"virtual_size": base["virtual_size"] + 512, "format": "raw" if base["format"] == "qcow2" else "qcow2"}
    with pytest.raises(KvmfleetError) as caught:
        store.fetch({**base, wrong: other[wrong]}, copy_of(content, []))
    assert caught.value.code in ("base_differs", "qemu_img_failed")
    assert in_store(images) == []


@pytest.fixture
def layer(tmp_path: Path, state: Any, images: Path, qemu_img: Callable[[str], str]) -> tuple[Path, dict[str, Any]]:
    """A layer on a base, elsewhere; the base is here too, under another name."""
    elsewhere, data = tmp_path / "elsewhere", tmp_path / "data"
    elsewhere.mkdir()
    data.write_bytes(b"data" * 50_000)
    qemu_img(f"convert -f raw -O qcow2 {data} {elsewhere}/low.qcow2")
    qemu_img(f"create -q -f qcow2 -F qcow2 -b low.qcow2 {elsewhere}/high.qcow2")
    (images / "ground.qcow2").write_bytes((elsewhere / "low.qcow2").read_bytes())
    below = {**_identity.content_id(state, f"{elsewhere}/low.qcow2", "qcow2", [str(elsewhere)]), "path": f"{elsewhere}/low.qcow2"}
    high = {**_identity.content_id(state, f"{elsewhere}/high.qcow2", "qcow2", [str(elsewhere)]), "path": f"{elsewhere}/high.qcow2", "backing": below}
    return elsewhere / "high.qcow2", high


def test_a_layer_is_put_on_the_file_that_is_below_it_here(
    store: ImageStore, layer: tuple[Path, dict[str, Any]], images: Path, qemu_img: Callable[[str], str]
) -> None:
    content, base = layer
    assert store.look(base) is None
    path, _sent = store.fetch(base, copy_of(content, []))
    assert f"backing file: {images}/ground.qcow2" in qemu_img(f"info -f qcow2 {path}")
    assert store.look(base) == path
    assert os.stat(path).st_mode & 0o777 == 0o444


def test_a_layer_is_not_fetched_before_what_it_stands_on(store: ImageStore, layer: tuple[Path, dict[str, Any]], images: Path) -> None:
    content, base = layer
    (images / "ground.qcow2").unlink()
    with pytest.raises(KvmfleetError) as caught:
        store.fetch(base, lambda path, size: pytest.fail("was fetched"))
    assert caught.value.code == "base_missing"
    assert in_store(images) == []


def test_a_layer_that_is_here_on_another_base_is_not_the_one(
    store: ImageStore, layer: tuple[Path, dict[str, Any]], images: Path, qemu_img: Callable[[str], str]
) -> None:
    content, base = layer
    (images / "mine.qcow2").write_bytes(content.read_bytes())
    qemu_img(f"create -q -f qcow2 {images}/other.qcow2 200000")
    qemu_img(f"rebase -u -f qcow2 -F qcow2 -b {images}/other.qcow2 {images}/mine.qcow2")
    assert store.look(base) is None
    qemu_img(f"rebase -u -f qcow2 -F qcow2 -b {images}/ground.qcow2 {images}/mine.qcow2")
    assert store.look(base) == f"{images}/mine.qcow2"


def test_a_layer_with_another_content_is_thrown_away(store: ImageStore, layer: tuple[Path, dict[str, Any]], images: Path) -> None:
    content, base = layer
    spoilt = content.read_bytes()
    content.write_bytes(spoilt[:-1] + bytes([spoilt[-1] ^ 1]))
    with pytest.raises(KvmfleetError) as caught:
        store.fetch(base, copy_of(content, []))
    assert caught.value.code == "base_differs"
    assert in_store(images) == []


def test_two_hosts_that_share_the_store_do_not_destroy_each_others_fetch(
    store: ImageStore, base: dict[str, Any], content: Path, images: Path, tmp_path: Path
) -> None:
    """Their locks are their own. Who is second finds the image of the first and takes nothing from under its guests."""
    other = ImageStore(StateDir(str(tmp_path / "state-of-another")), str(images), [str(images)], set())
    first: list[tuple[str, int]] = []

    def overtaken(part: str, size: int) -> int:
        Path(part).write_bytes(content.read_bytes()[:100])
        first.append(store.fetch(base, copy_of(content, [])))
        return copy_of(content, [])(part, size)

    second = other.fetch(base, overtaken)
    assert first[0][0] == second[0]
    inode = os.stat(second[0]).st_ino
    assert in_store(images) == [os.path.basename(second[0])]
    assert hashlib.sha256(Path(second[0]).read_bytes()).hexdigest() == base["sha256"]
    assert os.stat(store.look(base) or "").st_ino == inode


def test_an_image_of_other_content_under_the_name_is_not_replaced(store: ImageStore, base: dict[str, Any], content: Path, images: Path) -> None:
    """Guests may stand on it, whatever has become of it. Ours gets a name beside it, and is found by that."""
    (images / "_base").mkdir()
    spoilt = images / "_base" / f"{base['sha256']}.{base['format']}"
    spoilt.write_bytes(b"spoilt")
    path, sent = store.fetch(base, copy_of(content, []))
    assert (os.path.basename(path), sent) == (f"{base['sha256']}.{store.state.identity()}.{base['format']}", base["size_bytes"])
    assert (spoilt.read_bytes(), Path(path).read_bytes()) == (b"spoilt", content.read_bytes())
    assert (store.look(base), store.fetch(base, copy_of(content, []))) == (path, (path, 0))
    assert [(image.sha256, image.partial, image.fetched_by) for image in _eviction._images(f"{images}/_base", {})] == [(base["sha256"], False, None)] * 2


def test_two_images_of_other_content_under_the_names_are_not_replaced(store: ImageStore, base: dict[str, Any], content: Path, images: Path) -> None:
    names = [f"{base['sha256']}{digits}.{base['format']}" for digits in ("", f".{store.state.identity()}")]
    (images / "_base").mkdir()
    for name in names:
        (images / "_base" / name).write_bytes(b"spoilt")
    with pytest.raises(KvmfleetError, match="contains what its name says") as caught:
        store.fetch(base, copy_of(content, []))
    assert caught.value.code == "base_differs"
    assert in_store(images) == sorted(names)
    assert [(images / "_base" / name).read_bytes() for name in names] == [b"spoilt"] * 2


@pytest.mark.parametrize("other", ["of another size", "of the same size", "a link", "a directory", "written to"])
def test_a_base_of_the_same_name_with_other_content_keeps_no_guest(
    state: Any, base: dict[str, Any], content: Path, images: Path, tmp_path: Path, other: str
) -> None:
    """Ours comes to the store under the name of its content, and the file of that name stays what it is."""
    named = images / "base.img"
    base["path"] = str(named)
    spoilt = bytearray(content.read_bytes())
    spoilt[-1] ^= 1
    if other == "a link":
        named.symlink_to(tmp_path)
    elif other == "a directory":
        named.mkdir()
    elif other == "written to":
        named.write_bytes(content.read_bytes())
    else:
        named.write_bytes(bytes(spoilt) + (b"more" if other == "of another size" else b""))
    store = ImageStore(state, str(images), [str(images)], {str(named)} if other == "written to" else set())
    before = os.lstat(named)
    assert store.look(base) is None
    path, _sent = store.fetch(base, copy_of(content, []))
    assert path == f"{images}/_base/{base['sha256']}.{base['format']}"
    assert store.namesake(base) == (None if other == "written to" else str(named))
    assert (os.lstat(named).st_ino, os.lstat(named).st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_what_bears_the_name_elsewhere_or_is_the_base_itself_is_no_namesake(store: ImageStore, base: dict[str, Any], content: Path, images: Path) -> None:
    """Nothing is looked at where this host keeps no images."""
    assert store.namesake({**base, "path": "/etc/passwd"}) is None
    assert store.namesake({**base, "path": f"{images}/base.img"}) is None
    (images / "base.img").write_bytes(content.read_bytes())
    assert store.namesake({**base, "path": f"{images}/base.img"}) is None


def test_every_user_gets_to_a_base_whatever_the_umask_is(store: ImageStore, base: dict[str, Any], content: Path, images: Path) -> None:
    before = os.umask(0o077)
    try:
        path, _sent = store.fetch(base, copy_of(content, []))
    finally:
        os.umask(before)
    assert os.stat(images / "_base").st_mode & 0o777 == 0o755
    assert os.stat(path).st_mode & 0o777 == 0o444


def test_no_directory_that_others_need_is_made_under_the_umask() -> None:
    """What is not private is made with its mode told after that."""
    made = [
        f"{name}: {ast.unparse(node)}"
        for name, _path, tree in sources()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("os.mkdir", "os.makedirs") and "448" not in ast.unparse(node)
    ]
    assert made == []
