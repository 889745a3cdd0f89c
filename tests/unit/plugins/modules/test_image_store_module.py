# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The module image_store on real files, in check mode and for real."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ansible_collections.kvmfleet.compute.plugins.module_utils._rules.errors import KvmfleetError
from ansible_collections.kvmfleet.compute.plugins.modules import image_store

A, B = "a" * 64, "b" * 64


@pytest.fixture
def store(images: Path) -> Path:
    """An image that an overlay stands on and one that nothing uses."""
    directory = images / "_base"
    directory.mkdir()
    for name in (f"{A}.raw", f"{B}.raw", "mine.raw", f"{B}.raw.old"):
        (directory / name).write_bytes(b"x" * 8192)
    return directory


@pytest.fixture
def act(qemu: Any, state: Any, images: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run the module with these options."""

    def run(check: bool = False, **options: Any) -> dict[str, Any]:
        limits = {"older_than": None, "keep_bytes": None}
        paths = {"images_path": str(images), "image_directories": [], "state_path": state.path}
        params = {**limits, **paths, "host": "kvm1", "digests": [], "elsewhere": [], **options}
        return image_store.list_and_remove(qemu, SimpleNamespace(params=params, check_mode=check))

    return run


def test_it_removes_what_is_unused_and_only_when_asked(act: Any, store: Path, images: Path, qemu_img: Any) -> None:
    qemu_img(f"create -q -f qcow2 -b {store}/{A}.raw -F raw backup.qcow2")
    before = sorted(os.listdir(store))
    listed, wished = act(), act(check=True, keep_bytes=0)
    assert (listed["changed"], listed["freed_bytes"]) == (False, 0)
    assert (wished["changed"], wished["freed_bytes"], wished["bytes"]) == (True, 8192, 8192)
    assert wished["diff"] == {"before": {"images": [f"{store}/{A}.raw", f"{store}/{B}.raw"]}, "after": {"images": [f"{store}/{A}.raw"]}}
    assert sorted(os.listdir(store)) == before

    assert not act(older_than=1)["changed"]
    removed = act(older_than=0)
    assert [(image["sha256"], image["removed"], image["used_by"]) for image in removed["images"]] == [
        (A, False, [f"file {images}/backup.qcow2"]), (B, True, []),
    ]  # fmt: skip
    assert sorted(os.listdir(store)) == [f"{A}.raw", f"{B}.raw.old", "mine.raw"]
    assert not act(older_than=0)["changed"]


def test_nothing_goes_while_a_disk_cannot_be_read(act: Any, store: Path, images: Path, qemu: Any) -> None:
    """It may lie on storage that is not mounted just now."""
    qemu.defineXML(
        "<domain type='qemu'><name>web1</name><memory>65536</memory><os><type>hvm</type></os><devices><disk type='file' device='disk'>"
        f"<driver name='qemu' type='qcow2'/><source file='{images}/gone.qcow2'/><target dev='vda' bus='virtio'/></disk></devices></domain>"
    )
    assert act()["unreadable"] == {"vda of guest web1": f"{images}/gone.qcow2: No such file or directory"}
    with pytest.raises(KvmfleetError) as caught:
        act(keep_bytes=0)
    assert caught.value.code == "uses_unknown"
    assert "vda of guest web1" in caught.value.message
    assert (store / f"{B}.raw").exists()


@pytest.mark.parametrize("wrong", [{"older_than": -1.0}, {"keep_bytes": -1}])
def test_negative_limits_are_refused(act: Any, store: Path, wrong: dict[str, Any]) -> None:
    with pytest.raises(KvmfleetError) as caught:
        act(**wrong)
    assert caught.value.code == "invalid_value"


def test_nothing_is_removed_before_the_other_hosts_were_asked(act: Any, store: Path) -> None:
    with pytest.raises(KvmfleetError, match="nobody has asked the other hosts") as caught:
        act(keep_bytes=0, elsewhere=None)
    assert caught.value.code == "uses_unknown"
    assert (store / f"{A}.raw").exists()
    assert act(elsewhere=None)["changed"] is False


def test_what_another_host_uses_stays_and_so_does_everything_while_it_cannot_tell(act: Any, store: Path) -> None:
    """The answer of one host is what the other one is given."""
    there = {"host": "kvm2", "asked": [A, B], "uses": {A: {"guest web1": []}}, "unreadable": {}}
    assert act(digests=[A, B])["answer"] == {"host": "kvm1", "asked": [A, B], "uses": {}, "unreadable": {}}
    with pytest.raises(KvmfleetError, match="vda of guest db1 on kvm2: not mounted") as caught:
        act(keep_bytes=0, elsewhere=[{**there, "unreadable": {"vda of guest db1": "not mounted"}}])
    assert caught.value.code == "uses_unknown"
    assert (store / f"{A}.raw").exists()
    done = act(keep_bytes=0, elsewhere=[there])
    assert [(image["sha256"], image["used_by"], image["removed"]) for image in done["images"]] == [(A, ["guest web1 on kvm2"], False), (B, [], True)]


def test_nothing_goes_that_another_host_was_not_asked_about(act: Any, store: Path) -> None:
    """With the strategy free, a fast host answers before a slow one has listed its images."""
    fast = {"host": "kvm2", "asked": [A], "uses": {}, "unreadable": {}}
    with pytest.raises(KvmfleetError, match="kvm2 had not been asked about all images") as caught:
        act(keep_bytes=0, elsewhere=[fast])
    assert caught.value.code == "uses_unknown"
    assert (store / f"{B}.raw").exists()
