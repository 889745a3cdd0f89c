# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Programs are bounded by what they get done and by what they take, never by how long they run."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ansible_collections.kvmfleet.compute.plugins.module_utils._rules.errors import KvmfleetError
from ansible_collections.kvmfleet.compute.plugins.module_utils._storage import qemu_img as _qemu_img
from ansible_collections.kvmfleet.compute.plugins.module_utils._system import processes as _processes

WRITES = "import time\nfor _ in range(20):\n  open({path!r}, 'a').write('x')\n  time.sleep(0.1)"


@pytest.fixture
def fake_qemu_img(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """A program of that name, in Python."""

    def make(program: str) -> None:
        path = tmp_path / "bin" / "qemu-img"
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!{sys.executable}\n{program}\n")
        path.chmod(0o755)
        monkeypatch.setenv("PATH", f"{path.parent}:{os.environ['PATH']}")

    return make


def test_a_program_that_gets_on_is_waited_for(tmp_path: Path) -> None:
    ended = _processes.run([sys.executable, "-c", WRITES.format(path=str(tmp_path / "file"))], stall=0.5)
    assert (ended.returncode, (tmp_path / "file").read_text()) == (0, "x" * 20)


def test_a_program_that_does_nothing_is_ended_and_named() -> None:
    with pytest.raises(KvmfleetError, match=r"^sh a b did nothing for 0.5 s: look at the storage") as caught:
        _processes.run(["sh", "-c", "kill -STOP $$"], stall=0.5, what="a b")
    assert caught.value.code == "tool_stalled"


def test_qemu_img_that_hangs(fake_qemu_img: Callable[[str], None], images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (images / "disk.raw").write_bytes(bytes(65536))
    fake_qemu_img("import signal, os\nos.kill(os.getpid(), signal.SIGSTOP)")
    monkeypatch.setattr(_processes.run, "__kwdefaults__", {**_processes.run.__kwdefaults__, "stall": 0.5})
    with pytest.raises(KvmfleetError, match=f"qemu-img info {images}/disk.raw did nothing") as caught:
        _qemu_img.info(str(images / "disk.raw"), "raw")
    assert caught.value.code == "tool_stalled"


def test_a_hostile_image_gets_no_more_than_its_bounds(fake_qemu_img: Callable[[str], None], images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (images / "disk.raw").write_bytes(bytes(65536))
    monkeypatch.setattr(_qemu_img, "_BOUNDS", _processes.Bounds(_qemu_img._BOUNDS.address_space, 1))
    monkeypatch.setattr(_qemu_img._execute, "__kwdefaults__", {**_qemu_img._execute.__kwdefaults__, "bounds": _qemu_img._BOUNDS})
    for program, said in (("while True: pass", "needed more than 1 s of a processor"), ("bytearray(2**31)", "MemoryError|failed")):
        fake_qemu_img(program)
        with pytest.raises(KvmfleetError, match=said) as caught:
            _qemu_img.check(str(images / "disk.raw"), "raw")
        assert caught.value.code == "qemu_img_failed"


def test_a_sound_image_of_many_clusters_is_within_the_bounds(images: Path, qemu_img: Callable[[str], str]) -> None:
    """The most that a file can hold for its size: clusters of 4 KiB, all of them in use."""
    qemu_img("create -q -f qcow2 -o cluster_size=4096,preallocation=metadata disk.qcow2 512M")
    assert _qemu_img.info(str(images / "disk.qcow2"), "qcow2").virtual_size == 512 * 1024**2
    assert _qemu_img.check(str(images / "disk.qcow2"), "qcow2").leaks == 0
