# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import base64
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.kvmfleet.compute.plugins.module_utils._guest.belongings import tpm as _tpm
from ansible_collections.kvmfleet.compute.plugins.module_utils._rules.errors import KvmfleetError

UUID = "6c1b2f0e-4d3c-4b5a-9a87-1f2e3d4c5b6a"


@pytest.fixture(autouse=True)
def swtpm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where libvirt keeps the states of all guests; it makes the directory with the first one."""
    monkeypatch.setattr(_tpm, "DIRECTORY", str(tmp_path / "swtpm"))
    return tmp_path / "swtpm"


def made(swtpm: Path) -> Path:
    directory = swtpm / UUID / "tpm2"
    directory.mkdir(parents=True)
    (directory / "tpm2-00.permall").write_bytes(bytes(range(256)) * 20)
    (directory / ".lock").touch()
    return directory


@pytest.mark.invariant(10)
def test_it_is_what_it_was(swtpm: Path) -> None:
    directory = made(swtpm)
    files = _tpm.read(UUID)
    assert list(files) == ["tpm2/tpm2-00.permall"]
    _tpm.remove(UUID, "m-1")
    assert not (swtpm / UUID).exists()
    swtpm.rmdir()
    assert _tpm.write(UUID, files, "m-1")
    assert (directory / "tpm2-00.permall").read_bytes() == bytes(range(256)) * 20
    assert [oct(path.stat().st_mode & 0o777) for path in (swtpm / UUID, directory, directory / "tpm2-00.permall")] == ["0o711", "0o700", "0o600"]
    assert os.listdir(swtpm) == [UUID]


def test_what_is_there_is_left_alone(swtpm: Path) -> None:
    made(swtpm)
    assert not _tpm.write(UUID, {"tpm2/tpm2-00.permall": base64.b64encode(b"other").decode()}, "m-1")
    assert (swtpm / UUID / "tpm2" / "tpm2-00.permall").stat().st_size == 5120


def test_what_is_put_back_takes_the_place_of_all_that_is_there(swtpm: Path) -> None:
    before = {"tpm2/tpm2-00.permall": base64.b64encode(b"before").decode()}
    made(swtpm)
    _tpm.put_back(UUID, before, "m-1")
    assert _tpm.read(UUID) == before
    assert os.listdir(swtpm) == [UUID]


def test_half_of_one_state_and_half_of_another_is_none(swtpm: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where something does not go away, nothing is written beside it."""
    directory = made(swtpm)
    monkeypatch.setattr(shutil, "rmtree", lambda path, **_options: None)
    with pytest.raises(KvmfleetError, match="cannot be removed"):
        _tpm.put_back(UUID, {"tpm2/other": ""}, "m-1")
    assert sorted(os.listdir(directory)) == [".lock", "tpm2-00.permall"]


def test_a_file_that_becomes_a_link_while_it_is_read_is_not_followed(swtpm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The user of swtpm may exchange it at any time: after it was listed, say."""
    (tmp_path / "secret").write_text("secret")
    file = made(swtpm) / "tpm2-00.permall"
    walk = os.walk

    def walked(top: str) -> Any:
        found = list(walk(top))
        file.unlink()
        file.symlink_to(tmp_path / "secret")
        return found

    monkeypatch.setattr(os, "walk", walked)
    with pytest.raises(KvmfleetError, match="is no regular file"):
        _tpm.read(UUID)


def test_nor_a_directory_that_becomes_one(swtpm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "tpm2-00.permall").write_text("secret")
    directory = made(swtpm)
    walk = os.walk

    def walked(top: str) -> Any:
        found = list(walk(top))
        directory.rename(tmp_path / "aside")
        directory.symlink_to(tmp_path / "elsewhere")
        os.lchown(directory, 65534, 65534)
        return found

    monkeypatch.setattr(os, "walk", walked)
    with pytest.raises(KvmfleetError, match="is no regular file"):
        _tpm.read(UUID)


def test_a_write_that_was_interrupted_is_done_anew(swtpm: Path) -> None:
    half = swtpm / f"{UUID}.m-1.part" / "tpm2"
    half.mkdir(parents=True)
    (half / "tpm2-00.permall").touch()
    assert _tpm.write(UUID, {"tpm2/tpm2-00.permall": base64.b64encode(b"whole").decode()}, "m-1")
    assert (swtpm / UUID / "tpm2" / "tpm2-00.permall").read_bytes() == b"whole"
    assert os.listdir(swtpm) == [UUID]


def test_a_tpm_that_was_never_started_has_none(swtpm: Path) -> None:
    assert _tpm.read(UUID) == {}
    assert not _tpm.write(UUID, {}, "m-1")
    assert not swtpm.exists()


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", "tpm2/../../x"])
def test_no_file_is_written_elsewhere(swtpm: Path, name: str) -> None:
    with pytest.raises(KvmfleetError, match="outside of its directory"):
        _tpm.write(UUID, {name: ""}, "m-1")
    assert not (swtpm / UUID).exists()


def test_a_link_is_not_followed(swtpm: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    directory = made(swtpm)
    (directory / "link").symlink_to(tmp_path / "secret")
    with pytest.raises(KvmfleetError, match="link in the state of the TPM is no regular file"):
        _tpm.read(UUID)
    (directory / "link").unlink()
    (directory / "link").symlink_to(tmp_path)
    with pytest.raises(KvmfleetError, match="no regular file"):
        _tpm.read(UUID)


def test_it_is_bounded(swtpm: Path) -> None:
    with (made(swtpm) / "tpm2-00.permall").open("wb") as stream:
        stream.truncate(_tpm.TPM_BYTES + 1)
    with pytest.raises(KvmfleetError, match="more than 1048576 bytes"):
        _tpm.read(UUID)
