# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import base64
import os
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.kvmfleet.compute.plugins.module_utils._domain import definition as _definition
from ansible_collections.kvmfleet.compute.plugins.module_utils._guest.belongings import console_logs as _console_logs
from ansible_collections.kvmfleet.compute.plugins.module_utils._journal.records import Journal
from ansible_collections.kvmfleet.compute.plugins.module_utils._journal.state_dir import StateDir
from ansible_collections.kvmfleet.compute.plugins.module_utils._storage.disk_use import DiskUses

Operation = Callable[..., dict[str, Any]]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (tmp_path / "source").mkdir()
    return tmp_path / "source/console.log"


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Where it comes to lie."""
    (tmp_path / "destination").mkdir()
    return tmp_path / "destination/console.log"


@pytest.fixture
def operation(state: StateDir, log: Path) -> Operation:
    def begin(**more: Any) -> dict[str, Any]:
        parties = {"instance_uuid": "i-1", "instance_name": "web", "source_host": "kvm1", "destination_host": "kvm2"}
        return Journal(state).begin(
            {"uuid": "m-1", "owner": "o", "role": "destination", **parties, "console_logs": [{"path": str(log), "append": True}], **more}
        )

    return begin


def told(path: Path, append: bool = True, was_running: bool = True) -> list[dict[str, Any]]:
    return _console_logs.read({"console_logs": [{"path": str(path), "append": append}], "was_running": was_running})


def given(log: Path, content: bytes, whole: bool = True) -> dict[str, Any]:
    return {"path": str(log), "content": base64.b64encode(zlib.compress(content)).decode(), "whole": whole}


def notes(record: dict[str, Any]) -> str:
    return "; ".join(entry.get("note", "") for entry in record["history"])


def test_what_is_written_into_files_is_found_once() -> None:
    serial = "<serial type='file'><source path='/var/log/a'/></serial><console type='file'><source path='/var/log/a' append='on'/></console>"
    others = "<channel type='unix'><source path='/run/s'/><log file='/var/log/b' append='off'/></channel><disk type='file'><source file='/i/a'/></disk>"
    root = _definition.parse(f"<domain><devices>{serial}{others}<serial type='pty'/><!-- none --></devices></domain>")
    assert _console_logs.facts(root) == [{"path": "/var/log/a", "append": True}, {"path": "/var/log/b", "append": False}]


@pytest.mark.parametrize(
    ("path", "refused"),
    [
        ("/var/log/libvirt/qemu/web.log", False),
        ("/var/log/consoles/web.log", True),
        ("{images}/web.log", False),
        ("{images}/deep/er/web.log", False),
        ("{images}.log", True),
        ("{images}/../web.log", True),
        ("{images}/link/web.log", True),
        ("/var/log/../../etc/shadow", True),
        ("/var/logs", True),
        ("/srv/web.log", True),
        ("/dev/null", True),
    ],
)
def test_only_in_directories_that_were_named(images: Path, path: str, refused: bool) -> None:
    (images / "link").symlink_to("/srv")
    found = list(_console_logs.refusals([{"path": path.format(images=images), "append": True}], [str(images)]))
    assert [code for code, _reason in found] == ["unsupported_log_file"] * refused
    assert all(str(images) in reason for _code, reason in found)


@pytest.mark.parametrize(("append", "was_running", "travels"), [(True, True, True), (False, True, False), (False, False, True), (True, False, True)])
def test_one_that_the_next_start_empties_stays(source: Path, append: bool, was_running: bool, travels: bool) -> None:
    source.write_text("login:")
    assert bool(told(source, append, was_running)) is travels


@pytest.mark.parametrize("size", [0, 1, _console_logs.LIMIT, _console_logs.LIMIT + 1])
def test_the_end_of_it_comes(source: Path, log: Path, operation: Operation, state: StateDir, size: int) -> None:
    content = os.urandom(size)
    source.write_bytes(content)
    (read,) = told(source)
    record = _console_logs.receive(Journal(state), operation(), [{**read, "path": str(log)}])
    assert log.read_bytes() == content[-_console_logs.LIMIT :]
    assert oct(log.stat().st_mode & 0o777) == "0o600"
    assert ("the last 2097152 bytes came" in notes(record)) is (size > _console_logs.LIMIT)
    assert record["log_inodes"] == {str(log): log.stat().st_ino}
    assert os.listdir(log.parent) == ["console.log"]


def test_all_of_them_together_are_bounded(source: Path) -> None:
    source.write_bytes(os.urandom(_console_logs.LIMIT))
    record = {"console_logs": [{"path": str(source), "append": True}] * 16, "was_running": True}
    read = _console_logs.read(record)
    assert len(read) == 16
    assert sum(len(entry["content"]) for entry in read) < 1.4 * 4 * _console_logs.LIMIT


@pytest.mark.parametrize("kind", ["missing", "directory", "link", "fifo"])
def test_what_is_no_log_is_left_out(source: Path, kind: str) -> None:
    {"missing": lambda: None, "directory": source.mkdir, "link": lambda: source.symlink_to("/etc/passwd"), "fifo": lambda: os.mkfifo(source)}[kind]()
    assert told(source) == []
    assert told(Path("/dev/zero")) == []


@pytest.mark.parametrize(
    ("here", "afterwards", "note"),
    [
        (b"boot 1\n", b"boot 1\nboot 2\n", ""),
        (b"boot 1\nboot 2\n", b"boot 1\nboot 2\n", ""),
        (b"", b"boot 1\nboot 2\n", ""),
        (b"other\n", b"other\n", "is another one here, to which the guest adds"),
        (b"boot 1\nboot 2\nboot 3\n", b"boot 1\nboot 2\nboot 3\n", "is another one here"),
    ],
)
def test_one_that_is_here_is_continued_or_left_alone(
    qemu: Any, log: Path, operation: Operation, state: StateDir, here: bytes, afterwards: bytes, note: str
) -> None:
    """And it is never removed: the host had it before."""
    log.write_bytes(here)
    record = _console_logs.receive(Journal(state), operation(), [given(log, b"boot 1\nboot 2\n")])
    _console_logs.remove(DiskUses(qemu, state), record)
    assert log.read_bytes() == afterwards
    assert note in notes(record)


@pytest.mark.parametrize(
    "bad",
    [
        {"content": "%"},
        {"content": base64.b64encode(b"no zlib").decode()},
        {"content": base64.b64encode(zlib.compress(bytes(_console_logs.LIMIT + 1))).decode()},
        {"path": "/etc/cron.d/evil"},
    ],
)
def test_nothing_else_comes_from_the_source_and_no_move_fails_for_it(log: Path, operation: Operation, state: StateDir, bad: dict[str, str]) -> None:
    record = _console_logs.receive(Journal(state), operation(), [{**given(log, b"boot"), **bad}])
    assert os.listdir(log.parent) == []
    assert not os.path.lexists("/etc/cron.d/evil")
    assert ("did not come" in notes(record)) is ("path" not in bad)


def test_a_directory_that_is_gone_is_no_failure(log: Path, operation: Operation, state: StateDir) -> None:
    log.parent.rmdir()
    assert "did not come: [Errno 2]" in notes(_console_logs.receive(Journal(state), operation(), [given(log, b"boot")]))


def test_nothing_of_it_stays_where_the_guest_was_taken_back(qemu: Any, log: Path, operation: Operation, state: StateDir) -> None:
    other = log.with_name("other.log")
    record = operation(console_logs=[{"path": str(path), "append": True} for path in (log, other)])
    record = _console_logs.receive(Journal(state), record, [given(log, b"boot")])
    record = _console_logs.receive(Journal(state), record, [given(log, b"boot"), given(other, b"boot")])
    Path(f"{log}.m-1.part").write_text("of a run that died")
    _console_logs.remove(DiskUses(qemu, state), record)
    assert os.listdir(log.parent) == []
    log.write_text("of somebody else")
    log.with_name("other").write_text("keeps the inode busy")
    _console_logs.remove(DiskUses(qemu, state), {**record, "log_inodes": {str(log): 0}})
    assert log.exists()
