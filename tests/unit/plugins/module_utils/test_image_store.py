# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Base images are found and fetched by what they contain."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.kvmfleet.compute.plugins.module_utils import _identity
from ansible_collections.kvmfleet.compute.plugins.module_utils._errors import KvmfleetError
from ansible_collections.kvmfleet.compute.plugins.module_utils._image_store import ImageStore

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
    return {**_identity.identity(state, str(content), image_format), "path": "/elsewhere/base.img"}


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
    monkeypatch.setattr(_identity, "_sha256", lambda stream: pytest.fail("was read again"))
    _identity.require(state, path, base)


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
    part = images / "_base" / f"{base['sha256']}.{base['format']}.part"
    part.write_bytes(b"wrong")
    filled: list[str] = []
    path, sent = store.fetch(base, copy_of(content, filled), resumable=True)
    assert len(filled) == 2
    assert sent == 2 * base["size_bytes"] - 5
    os.unlink(path)

    part.write_bytes(content.read_bytes()[:-100])
    assert store.fetch(base, copy_of(content, filled), resumable=True) == (path, 100)
    assert hashlib.sha256(Path(path).read_bytes()).hexdigest() == base["sha256"]
    assert len(filled) == 3


@pytest.mark.parametrize(
    ("code", "resumable", "left"), [("download_broke", True, 1), ("download_refused", True, 0), ("no_space", True, 0), ("copy_failed", False, 0)]
)
def test_only_a_broken_download_leaves_something(store: ImageStore, base: dict[str, Any], images: Path, code: str, resumable: bool, left: int) -> None:
    def fill(path: str, _size: int) -> int:
        Path(path).write_bytes(b"begun")
        raise KvmfleetError(code, "no")

    with pytest.raises(KvmfleetError):
        store.fetch(base, fill, resumable=resumable)
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
