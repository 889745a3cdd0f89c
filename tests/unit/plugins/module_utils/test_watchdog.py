# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Nothing that a module does waits for ever, and nothing is ended that gets on. All that hangs here really does, in libvirt, in the kernel or stopped."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.kvmfleet.compute.plugins.module_utils import _processes, _watchdog
from ansible_collections.kvmfleet.compute.plugins.module_utils._errors import KvmfleetError
from ansible_collections.kvmfleet.compute.plugins.module_utils._state_dir import StateDir
from ansible_collections.kvmfleet.compute.tests.unit.plugins.modules.test_facts_modules import run_module

LIMIT = 0.6
BUSY = "import time\nend = time.monotonic() + 2\nwhile time.monotonic() < end:\n  pass"


@pytest.fixture
def silent_libvirtd(tmp_path: Path) -> Iterator[str]:
    """The URI of a libvirtd that takes connections and says nothing."""
    with socket.socket(socket.AF_UNIX) as listener:
        path = tmp_path / "socket"
        listener.bind(str(path))
        listener.listen()
        yield f"qemu+unix:///system?socket={path}"


def hangs(work: Callable[[], Any]) -> KvmfleetError:
    """The error of work that is ended, soon."""
    began = time.monotonic()
    with pytest.raises(KvmfleetError) as caught:
        _watchdog.run(work, LIMIT)
    assert caught.value.code == "host_hangs"
    assert time.monotonic() - began < LIMIT + 5
    return caught.value


def is_dead(pid: int) -> bool:
    return _processes.state(pid)[0] is None


def nobody_writes(fifo: Path) -> int:
    """Waits in the kernel, as for a file of a server that is gone."""
    os.mkfifo(fifo)
    return os.open(fifo, os.O_RDONLY)


MODULES = {
    "host_facts": {"host": "kvm1"},
    "domain_info": {"name": "web1"},
    "image_store": {},
    "guest_filesystem": {"name": "web1", "disk": "vda"},
}


@pytest.mark.parametrize("module", MODULES)
def test_a_libvirtd_that_says_nothing_ends_the_module(silent_libvirtd: str, tmp_path: Path, module: str) -> None:
    began = time.monotonic()
    state = {} if module == "guest_filesystem" else {"state_path": str(tmp_path)}
    result = run_module(module, uri=silent_libvirtd, hang_timeout=1, **MODULES[module], **state)
    assert (result["failed"], result["error_code"]) == (True, "host_hangs")
    assert time.monotonic() - began < 12  # with a Python that starts on a busy machine
    assert result["msg"].startswith(f"{os.uname().nodename}: The host hangs: libvirtd has not answered open() for 1 s, at step ")
    assert result["details"]["step"][-1] == "_libvirt.connect"
    assert is_dead(result["details"]["pid"])


def test_a_call_into_the_kernel_that_does_not_come_back(tmp_path: Path) -> None:
    error = hangs(lambda: nobody_writes(tmp_path / "fifo"))
    assert "the system has not answered for 0.6 s (in the kernel: " in error.message
    assert is_dead(error.details["pid"])


def test_a_stopped_process_is_ended_too() -> None:
    error = hangs(lambda: os.kill(os.getpid(), signal.SIGSTOP))
    assert error.details["state"] == "T"
    assert is_dead(error.details["pid"])


def test_a_program_that_does_nothing_is_named_and_nothing_of_the_work_goes_on(tmp_path: Path) -> None:
    late = tmp_path / "late"
    program = ["sh", "-c", f"sleep 2 & wait $!; touch {late}"]
    error = hangs(lambda: subprocess.Popen(program, start_new_session=True).wait())  # not even what has left its session
    assert "sleep has done nothing for 0.6 s" in error.message
    assert error.details["programs"] == ["sh", "sleep"]
    time.sleep(2)
    assert not late.exists()


def test_what_gets_on_may_take_as_long_as_it_takes() -> None:
    def steps() -> int:
        for _step in range(20):
            time.sleep(0.1)
        return 20

    assert _watchdog.run(steps, LIMIT) == 20
    assert _watchdog.run(lambda: subprocess.Popen([sys.executable, "-c", BUSY]).wait(), LIMIT) == 0  # a call that is silent, since another works for it


def test_a_call_that_is_known_to_be_silent_is_given_the_time_for_it() -> None:
    def slow() -> str:
        with _watchdog.patience():
            time.sleep(1.5)
        return "done"

    assert _watchdog.run(slow, LIMIT) == "done"

    def slow_after_that() -> None:
        with _watchdog.patience():
            pass
        time.sleep(30)

    hangs(slow_after_that)


def test_the_lock_of_the_operation_is_free_once_the_work_is_dead_and_not_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = StateDir(str(tmp_path / "state"))

    def work() -> None:
        with state.lock("migration-m-1"):
            time.sleep(60)

    hangs(work)
    with state.lock("migration-m-1", timeout=0):
        pass

    killed: list[int] = []
    kill = os.kill

    def in_the_kernel(pid: int, number: int) -> None:
        """As a process that waits for a file server takes it."""
        killed.append(pid) if number == signal.SIGKILL else kill(pid, number)

    monkeypatch.setattr(_watchdog.os, "kill", in_the_kernel)
    monkeypatch.setattr(_watchdog, "_END_TIMEOUT", 0.2)
    error = hangs(work)
    assert f"Process {killed[0]} cannot be ended before the kernel lets it go: until then it holds the lock of the operation" in error.message
    assert error.details["ended"] is False
    with pytest.raises(KvmfleetError, match="held by another process"), state.lock("migration-m-1", timeout=0):
        pass
    kill(killed[0], signal.SIGKILL)


def test_results_errors_and_defects_come_through() -> None:
    assert _watchdog.run(lambda: {"changed": True, "text": "ü" * 200_000}, LIMIT) == {"changed": True, "text": "ü" * 200_000}

    def refuse() -> None:
        raise KvmfleetError("no_space", "There is no space.", need=3)

    with pytest.raises(KvmfleetError) as caught:
        _watchdog.run(refuse, LIMIT)
    assert (caught.value.code, caught.value.message, caught.value.details) == ("no_space", "There is no space.", {"need": 3})
    with pytest.raises(_watchdog.DefectError, match="ZeroDivisionError"):
        _watchdog.run(lambda: 1 // 0, LIMIT)
    with pytest.raises(KvmfleetError) as caught:
        _watchdog.run(lambda: os.kill(os.getpid(), signal.SIGKILL), LIMIT)
    assert caught.value.code == "module_killed"
    with pytest.raises(KvmfleetError) as caught:
        _watchdog.run(dict, 0)
    assert caught.value.code == "invalid_value"


def test_the_work_dies_with_the_module(tmp_path: Path) -> None:
    """As when its connection is lost, or somebody kills it."""
    told = tmp_path / "pid"
    module = os.fork()
    if not module:
        with contextlib.suppress(KvmfleetError):
            _watchdog.run(lambda: (told.write_text(str(os.getpid())), time.sleep(60)), 60)
        os._exit(0)
    deadline = time.monotonic() + 10
    while not (told.exists() and told.read_text()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.kill(module, signal.SIGKILL)
    os.waitpid(module, 0)
    while not is_dead(int(told.read_text())):
        assert time.monotonic() < deadline
        time.sleep(0.02)
