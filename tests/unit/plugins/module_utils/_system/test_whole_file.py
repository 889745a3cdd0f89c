# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A file is there whole or not at all, and nothing is opened through a link that somebody else has made."""

from __future__ import annotations

import ast
import contextlib
import inspect
import os
import signal
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.kvmfleet.compute.plugins.module_utils._journal.state_dir import StateDir
from ansible_collections.kvmfleet.compute.plugins.module_utils._rules.errors import KvmfleetError
from ansible_collections.kvmfleet.compute.plugins.module_utils._system import whole_file as _whole_file
from ansible_collections.kvmfleet.compute.plugins.module_utils._system.whole_file import Look
from ansible_collections.kvmfleet.compute.tests.unit.plugins.module_utils import durability
from ansible_collections.kvmfleet.compute.tests.unit.plugins.module_utils.durability import Killed, Recorder, dying, small_filesystem

OLD, NEW = b"old" * 50000, b"new" * 60000
STRANGER = 65534


@pytest.fixture
def source(images: Path) -> Path:
    """Variables of a firmware that belong to the user of QEMU."""
    path = images / "source"
    path.write_bytes(NEW + bytes(1024**2) + NEW)
    os.chown(path, STRANGER, STRANGER)
    path.chmod(0o640)
    return path


@pytest.fixture
def writers(source: Path) -> dict[str, tuple[Callable[[str], Any], bytes]]:
    """Each way to write a file in place of another one, and what it then holds."""
    return {"write": (lambda path: _whole_file.write(path, NEW), NEW), "copy": (lambda path: _whole_file.copy(str(source), path), source.read_bytes())}


@pytest.mark.parametrize("way", ["write", "copy"])
@pytest.mark.parametrize("call", range(8))
def test_killed_at_any_call_the_file_is_the_old_or_the_new_one(images: Path, writers: Any, monkeypatch: pytest.MonkeyPatch, way: str, call: int) -> None:
    path = images / "file"
    path.write_bytes(OLD)
    write, new = writers[way]
    with dying(monkeypatch, call, below=images) as died:
        try:
            write(str(path))
        except Killed:
            assert died()
    assert path.read_bytes() in (OLD, new)
    write(str(path))
    assert path.read_bytes() == new
    assert sorted(os.listdir(images)) == ["file", "source"]


@pytest.mark.parametrize("way", ["write", "copy"])
def test_killed_by_a_signal_while_it_writes_nothing_bears_the_name(images: Path, writers: Any, monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    """No cleaning up of ours runs then."""
    path = images / "file"
    write, new = writers[way]
    child = os.fork()
    if not child:
        os.fsync = lambda _descriptor: os.kill(os.getpid(), signal.SIGKILL)
        write(str(path))
        os._exit(0)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    assert sorted(os.listdir(images)) == ["file.new", "source"]
    write(str(path))
    assert (path.read_bytes(), sorted(os.listdir(images))) == (new, ["file", "source"])


@pytest.mark.parametrize("way", ["write", "copy"])
def test_on_a_full_filesystem_the_old_file_stays(images: Path, writers: Any, way: str) -> None:
    with small_filesystem(images / "small", "256k") as small:
        path = small / "file"
        path.write_bytes(OLD)
        with pytest.raises(KvmfleetError) as caught:
            writers[way][0](str(path))
        assert (caught.value.code, caught.value.details["path"]) == ("no_space", f"{path}.new")
        assert (os.listdir(small), path.read_bytes()) == (["file"], OLD)


@pytest.mark.parametrize("way", ["write", "copy"])
def test_content_and_name_are_on_the_disk_in_this_order(images: Path, writers: Any, state: Any, monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    recorder = Recorder(monkeypatch, state)
    writers[way][0](f"{images}/file")
    file, directory = f"{images}/file", str(images)
    assert [event for event in recorder.events if event[0] != "unlink"] == [("fsync", f"{file}.new"), ("replace", f"{file}.new", file), ("fsync", directory)]


def test_what_nobody_waits_for_is_not_brought_to_the_disk(images: Path, state: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = Recorder(monkeypatch, state)
    (images / "shown").mkdir()
    _whole_file.write(f"{images}/shown/file", NEW, durable=False, through=f"{images}/hidden")
    assert {event[0] for event in recorder.events} == {"replace"}
    assert (images / "shown" / "file").read_bytes() == NEW
    assert os.listdir(images) == ["shown"]


def test_a_copy_is_like_its_source(images: Path, source: Path) -> None:
    stamp = _whole_file.copy(str(source), f"{images}/file")
    found = os.stat(images / "file")
    assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (STRANGER, STRANGER, 0o640)
    assert (stamp["size"], stamp) == (found.st_size, _whole_file.stamp(str(source)))
    assert found.st_blocks * 512 < 1024**2  # the zeros are a hole


def test_a_source_that_is_written_to_is_not_copied(images: Path, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = _whole_file._checksum

    def meddled(reader: int, *args: Any) -> dict[str, Any]:
        found = real(reader, *args)
        with source.open("ab") as stream:
            stream.write(b"more")
        return found

    monkeypatch.setattr(_whole_file, "_checksum", meddled)
    with pytest.raises(KvmfleetError) as caught:
        _whole_file.copy(str(source), f"{images}/file")
    assert caught.value.code == "copy_differs"
    assert os.listdir(images) == ["source"]


def test_owner_and_mode_are_those_asked_for_whatever_the_umask(images: Path) -> None:
    before = os.umask(0o077)
    try:
        _whole_file.write(f"{images}/file", NEW, look=Look(STRANGER, STRANGER, 0o644))
    finally:
        os.umask(before)
    found = os.stat(images / "file")
    assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (STRANGER, STRANGER, 0o644)


class TestPublish:
    def test_a_file_that_has_the_name_is_never_replaced(self, images: Path) -> None:
        (images / "part").write_bytes(NEW)
        (images / "file").write_bytes(OLD)
        with pytest.raises(KvmfleetError) as caught:
            _whole_file.publish(f"{images}/part", f"{images}/file")
        assert caught.value.code == "path_taken"
        assert ((images / "file").read_bytes(), (images / "part").read_bytes()) == (OLD, NEW)

    def test_a_link_that_has_the_name_is_neither_replaced_nor_followed(self, images: Path) -> None:
        (images / "part").write_bytes(NEW)
        (images / "file").symlink_to("elsewhere")
        with pytest.raises(KvmfleetError, match="does not belong to this operation"):
            _whole_file.publish(f"{images}/part", f"{images}/file")
        assert sorted(os.listdir(images)) == ["file", "part"]

    @pytest.mark.parametrize("call", range(5))
    def test_killed_at_any_call_it_can_be_repeated(self, images: Path, monkeypatch: pytest.MonkeyPatch, call: int) -> None:
        (images / "part").write_bytes(NEW)
        with dying(monkeypatch, call, below=images):
            try:
                _whole_file.complete(f"{images}/part")
                _whole_file.publish(f"{images}/part", f"{images}/file")
            except Killed:
                pass
        if (images / "part").exists():
            _whole_file.publish(f"{images}/part", f"{images}/file")
        assert (os.listdir(images), (images / "file").read_bytes()) == (["file"], NEW)


class TestTree:
    FILES = {"tpm2/state": NEW, "tpm2/deep/er": OLD, "top": b""}

    @pytest.mark.parametrize("call", [*range(0, 30, 3), 99])
    def test_killed_at_any_call_it_is_there_whole_or_not_at_all(self, images: Path, monkeypatch: pytest.MonkeyPatch, call: int) -> None:
        target, part = f"{images}/tree", f"{images}/tree.part"
        with dying(monkeypatch, call, below=images), contextlib.suppress(Killed):
            _whole_file.write_tree(target, self.FILES, through=part, mode=0o711)
        if not os.path.lexists(target):
            _whole_file.write_tree(target, self.FILES, through=part, mode=0o711)
        assert {name: Path(target, name).read_bytes() for name in self.FILES} == self.FILES
        assert os.listdir(images) == ["tree"]
        assert [stat.S_IMODE(os.stat(path).st_mode) for path in (target, f"{target}/tpm2", f"{target}/top")] == [0o711, 0o700, 0o600]

    def test_all_of_it_is_on_the_disk_before_it_has_its_name(self, images: Path, state: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        recorder = Recorder(monkeypatch, state)
        _whole_file.write_tree(f"{images}/tree", self.FILES, through=f"{images}/part", mode=0o711)
        named = recorder.events.index(("rename", f"{images}/part", f"{images}/tree"))
        before = {path for event, path, *_rest in recorder.events[:named] if event == "fsync"}
        assert before == {f"{images}/part{below}" for below in ("", "/tpm2", "/tpm2/deep", *(f"/{name}" for name in self.FILES))}
        assert recorder.events[named + 1 :] == [("fsync", str(images))]

    @pytest.mark.parametrize("name", ["../x", "/etc/x", "tpm2/../../x", ""])
    def test_no_file_is_written_elsewhere(self, images: Path, name: str) -> None:
        with pytest.raises(KvmfleetError) as caught:
            _whole_file.write_tree(f"{images}/tree", {name: NEW}, through=f"{images}/part", mode=0o711)
        assert caught.value.code == "invalid_name"
        assert not (images / "tree").exists()


class TestLinks:
    """A guest that got out of its QEMU may write where QEMU's user may."""

    @pytest.fixture
    def nvram(self, tmp_path: Path) -> Path:
        """A directory of QEMU's user, in one of the same user."""
        directory = tmp_path / "qemu" / "nvram"
        directory.mkdir(parents=True)
        for path in (directory, directory.parent):
            os.chown(path, STRANGER, STRANGER)
        return directory

    @pytest.fixture
    def secret(self, tmp_path: Path) -> Path:
        directory = tmp_path / "secret"
        directory.mkdir()
        (directory / "file").write_bytes(OLD)
        return directory

    ACTS: dict[str, Callable[[str], Any]] = {
        "read": _whole_file.stamp,
        "copied": lambda path: _whole_file.copy(path, path + ".kept"),
        "gone on with": lambda path: _whole_file.part(path).__enter__(),
        "completed": _whole_file.complete,
    }

    @pytest.mark.parametrize("act", ACTS.values(), ids=list(ACTS))
    def test_a_link_in_place_of_the_file_is_not_followed(self, nvram: Path, secret: Path, act: Callable[[str], Any]) -> None:
        (nvram / "file").symlink_to(secret / "file")
        with pytest.raises(KvmfleetError) as caught:
            act(f"{nvram}/file")
        assert caught.value.code == "link_not_followed"
        assert ((secret / "file").read_bytes(), os.listdir(nvram)) == (OLD, ["file"])

    ACTS_IN = {
        **ACTS,
        "written": lambda path: _whole_file.write(path, NEW),
        "made": lambda path: _whole_file.make(path).__enter__(),
        "published": lambda path: _whole_file.publish(path, path + "2"),
        "replaced": lambda path: _whole_file.replace(path, path + "2"),
        "renamed": lambda path: _whole_file.rename(path, path + "2"),
    }

    @pytest.mark.parametrize("act", ACTS_IN.values(), ids=list(ACTS_IN))
    def test_nor_one_in_place_of_its_directory(self, nvram: Path, secret: Path, act: Callable[[str], Any]) -> None:
        nvram.rmdir()
        nvram.symlink_to(secret)
        os.lchown(nvram, STRANGER, STRANGER)
        with pytest.raises(KvmfleetError) as caught:
            act(f"{nvram}/file")
        assert caught.value.code == "link_not_followed"
        assert ((secret / "file").read_bytes(), os.listdir(secret)) == (OLD, ["file"])

    @pytest.mark.parametrize("way", ["write", "copy"])
    def test_one_that_waits_under_the_temporary_name_is_not_written_through(self, nvram: Path, secret: Path, writers: Any, way: str) -> None:
        (nvram / "file.new").symlink_to(secret / "file")
        writers[way][0](f"{nvram}/file")
        assert ((secret / "file").read_bytes(), os.listdir(nvram), (nvram / "file").is_symlink()) == (OLD, ["file"], False)

    def test_a_directory_that_root_has_put_elsewhere_is_used(self, nvram: Path, tmp_path: Path) -> None:
        """As administrators do, with relative links as well."""
        (tmp_path / "here").mkdir()
        (tmp_path / "here" / "elsewhere").symlink_to("../qemu/./nvram")
        (tmp_path / "first").symlink_to(tmp_path / "here" / "elsewhere")
        _whole_file.write(f"{tmp_path}/first/file", NEW)
        assert (nvram / "file").read_bytes() == NEW

    def test_links_that_lead_in_a_circle_end(self, tmp_path: Path) -> None:
        (tmp_path / "a").symlink_to("b")
        (tmp_path / "b").symlink_to("a")
        with pytest.raises(KvmfleetError, match="symbolic link"):
            _whole_file.write(f"{tmp_path}/a/file", NEW)

    @pytest.mark.parametrize("make", [os.mkfifo, os.mkdir], ids=["pipe", "directory"])
    def test_what_is_no_file_is_none(self, nvram: Path, make: Callable[[Path], None]) -> None:
        make(nvram / "file")
        with pytest.raises(KvmfleetError) as caught:
            _whole_file.stamp(f"{nvram}/file")
        assert caught.value.code == "not_a_regular_file"


def test_a_file_that_is_missing_has_no_stamp(images: Path) -> None:
    assert _whole_file.stamp(f"{images}/file") is None


def test_calls_that_the_tests_break_off_are_those_that_write() -> None:
    """A new kind of call would be one that no test dies in."""
    used = {
        node.func.attr
        for node in ast.walk(ast.parse(inspect.getsource(_whole_file)))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and isinstance(node.func.value, ast.Name) and node.func.value.id == "os"
    }
    reading = {"open", "close", "read", "lseek", "fstat", "stat", "readlink", "getcwd", "geteuid", "fdopen", "strerror", "listxattr", "getxattr"}
    assert used - reading - set(durability.CALLS) == {"setxattr", "chmod"}


def test_a_record_of_the_journal_is_on_the_disk_before_it_has_its_name_and_its_name_before_the_next_step(state: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has a writer of its own, which everything else here relies on."""
    recorder = Recorder(monkeypatch, StateDir(f"{state.path}-of-another-host"))
    state.write("migrations", "m-1", {"step": "sealed"})
    directory = f"{state.path}/migrations"
    journaled, written, named, synced = recorder.events
    assert journaled[0] == "journal"
    assert (written[0], named[0], synced) == ("fsync", "replace", ("fsync", directory))
    assert written[1:] == named[1:2]
    assert named[2] == f"{directory}/m-1.json"
    recorder.events.clear()
    state.remove("migrations", "m-1")
    assert recorder.events == [("unlink", f"{directory}/m-1.json"), ("fsync", directory)]
