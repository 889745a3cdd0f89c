# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Nothing that a module does waits for ever, and nothing is ended that gets on. All that hangs here really does, in libvirt, in the kernel or stopped."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import socket
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.kvmfleet.compute.plugins.module_utils._journal import desertion as _desertion
from ansible_collections.kvmfleet.compute.plugins.module_utils._journal.progress import peer_directory
from ansible_collections.kvmfleet.compute.plugins.module_utils._journal.records import Journal
from ansible_collections.kvmfleet.compute.plugins.module_utils._journal.state_dir import StateDir
from ansible_collections.kvmfleet.compute.plugins.module_utils._rules.errors import KvmfleetError
from ansible_collections.kvmfleet.compute.plugins.module_utils._system import processes as _processes, watchdog as _watchdog
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
    """The error of work that is ended; left alone, it would never end."""
    with pytest.raises(KvmfleetError) as caught:
        _watchdog.run(work, LIMIT)
    assert caught.value.code == "host_hangs"
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
    state = {} if module == "guest_filesystem" else {"state_path": str(tmp_path)}
    result = run_module(module, uri=silent_libvirtd, hang_timeout=1, **MODULES[module], **state)
    assert (result["failed"], result["error_code"]) == (True, "host_hangs")
    assert result["msg"].startswith(f"{MODULES[module].get('host', os.uname().nodename)}: The host hangs: libvirtd has not answered open() for 1 s, at step ")
    assert result["details"]["step"][-1] == "_libvirt.connection.connect"
    assert not [step for step in result["details"]["step"] if step.startswith("_module.")]
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


RUN = """
import sys, time
sys.path[:0] = {path}
from ansible_collections.kvmfleet.compute.plugins.module_utils._system import watchdog as _watchdog
def say(word):
    with open({told!r}, "a") as stream:
        print(word, file=stream)
def work():
    say("began")
    {work}
    say("went on")
try:
    _watchdog.run(work, {limit})
except Exception as exc:
    say(exc.code)
"""
WAITS = "time.sleep(30)"
FINISHES = """
    with _watchdog.finishing():
        time.sleep(1.5)
        say("finished a step")
    time.sleep(30)
"""
LEAVES_IN_ORDER = """
    try:
        time.sleep(30)
    except Exception:
        say("took it for an error of its own")
    finally:
        say("left in order")
"""
IN_A_CALL = """
    import ctypes
    with _watchdog.patience():
        ctypes.PyDLL(None).sleep(90)
"""


class Module:
    """A module that runs, whose output somebody reads."""

    def __init__(self, directory: Path, work: str, limit: float = 60, **options: Any) -> None:
        self.told = directory / "told"
        script = RUN.format(path=sys.path, told=str(self.told), work=work.strip(), limit=limit)
        self.process = subprocess.Popen([sys.executable, "-c", script], **{"stdout": subprocess.PIPE, **options})
        self.until("began")

    def until(self, word: str, timeout: float = 20) -> float:
        """Seconds until it has said that, at the end of what it has said."""
        began = time.monotonic()
        while not (self.told.exists() and self.told.read_text().endswith(f"{word}\n")):
            assert time.monotonic() - began < timeout, self.said
            time.sleep(0.02)
        return time.monotonic() - began

    @property
    def said(self) -> list[str]:
        return self.told.read_text().split("\n")[:-1]


def test_a_module_whose_run_is_gone_ends_at_once(tmp_path: Path) -> None:
    """As sshd does it when the connection or its channel has closed: nobody reads what the module says."""
    module = Module(tmp_path, WAITS)
    module.process.stdout.close()
    assert module.until("run_gone") < 3
    assert module.said == ["began", "run_gone"]


def test_a_module_whose_terminal_is_hung_up_ends_at_once(tmp_path: Path) -> None:
    """As sshd does it without pipelining: the module and all that it started get a signal too."""
    master, slave = os.openpty()
    module = Module(tmp_path, LEAVES_IN_ORDER, stdin=slave, stdout=slave, stderr=slave, preexec_fn=lambda: (os.setsid(), fcntl.ioctl(0, termios.TIOCSCTTY, 0)))
    os.close(slave)
    os.close(master)
    assert module.until("run_gone") < 3
    assert module.said == ["began", "left in order", "run_gone"]


def test_a_short_step_is_finished_before_a_module_ends_whose_run_is_gone(tmp_path: Path) -> None:
    module = Module(tmp_path, FINISHES)
    module.process.stdout.close()
    assert module.until("run_gone") < 6
    assert module.said == ["began", "finished a step", "run_gone"]


def test_a_call_that_cannot_be_interrupted_is_ended_with_its_process(tmp_path: Path) -> None:
    module = Module(tmp_path, IN_A_CALL)
    module.process.stdout.close()
    assert module.until("run_gone", 60) < 40
    assert module.said == ["began", "run_gone"]


@pytest.mark.parametrize("output", ["file", "closed input"])
def test_a_module_that_somebody_waits_for_is_not_ended(tmp_path: Path, output: str) -> None:
    """What it is told goes to a file, or its input has ended, which is so with each module that Ansible pipes in."""
    with (tmp_path / "output").open("w") as stream:
        options = {"stdout": stream} if output == "file" else {"stdin": subprocess.PIPE}
        module = Module(tmp_path, "time.sleep(2)", **options)
        if module.process.stdin:
            module.process.stdin.close()
        module.until("went on")
        assert module.process.wait(10) == 0


def test_the_operation_is_left_to_others_at_once_when_the_run_is_gone(tmp_path: Path) -> None:
    """The lock with the end of the work, and the lease, also at the other end, for the same owner alone."""
    journal = Journal(StateDir(str(tmp_path / "state")), lease=300)
    record = {"uuid": "m-1", "instance_uuid": "i-1", "instance_name": "web1", "owner": "gone", "source_host": "kvm1", "destination_host": "kvm2"}
    journal.begin(record)

    def work() -> None:
        with journal.working("m-1", "gone"):
            os.kill(os.getpid(), signal.SIGUSR1)

    with pytest.raises(KvmfleetError) as caught:
        _watchdog.run(work, 60)
    assert caught.value.code == "run_gone"
    left = journal.get("m-1")
    assert (left["abandoned"], left["history"][-1]["note"]) == (True, "its run has gone")
    assert journal.await_idle("m-1", "next", 0) is False
    taken = journal.take_over("m-1", "next", 0)
    assert (taken["owner"], taken["abandoned"]) == ("next", False)
    with pytest.raises(KvmfleetError, match="is being worked on by another run"):
        journal.take_over("m-1", "third", 0, gone="somebody else")
    assert journal.await_idle("m-1", "third", 0, gone="next") is False
    assert journal.take_over("m-1", "third", 0, gone="next")["owner"] == "third"


@pytest.mark.parametrize(
    ("silent", "owner", "is_waited_for", "ends"),
    [(120, "run-1", True, True), (30, "run-1", True, False), (120, "run-1", False, False), (120, "run-0", True, False), (None, "run-1", True, False)],
    ids=["silent and waited for", "asked just now", "nobody waits", "asked by another run", "never asked"],
)
def test_a_run_that_fell_silent_in_its_copy_is_not_waited_for(tmp_path: Path, silent: float | None, owner: str, is_waited_for: bool, ends: bool) -> None:
    """Its connection is still open, as after a power cut of its controller."""
    state = StateDir(str(tmp_path / "state"))
    directory = Path(peer_directory(state, "m-1"))
    directory.mkdir(parents=True)
    if silent is not None:
        (directory / _desertion.ASKED).write_text(owner)
        os.utime(directory / _desertion.ASKED, (time.time() - silent,) * 2)
    waits = _desertion.wanted(state, "m-1", 60) if is_waited_for else contextlib.nullcontext()
    ended = pytest.raises(KvmfleetError, match="The run that wanted this has gone") if ends else contextlib.nullcontext()
    with waits, ended:
        _watchdog.run(lambda: time.sleep(2), 60, lambda: _desertion.is_deserted(state, "m-1", "run-1"))


def test_whoever_waits_for_an_operation_says_so_and_takes_it_when_its_silent_run_has_ended(tmp_path: Path) -> None:
    state = StateDir(str(tmp_path / "state"))
    journal = Journal(state, lease=300)
    journal.begin({"uuid": "m-1", "instance_uuid": "i-1", "instance_name": "web1", "owner": "run-1", "source_host": "kvm1", "destination_host": "kvm2"})
    (directory := Path(peer_directory(state, "m-1"))).mkdir(parents=True)
    (directory / _desertion.ASKED).write_text("run-1")
    os.utime(directory / _desertion.ASKED, (0, 0))
    copies = os.fork()
    if not copies:

        def copy() -> None:
            with journal.working("m-1", "run-1"):
                (tmp_path / "copies").touch()
                time.sleep(60)

        with contextlib.suppress(KvmfleetError):
            _watchdog.run(copy, 60, lambda: _desertion.is_deserted(state, "m-1", "run-1"))
        os._exit(0)
    while not (tmp_path / "copies").exists():
        time.sleep(0.02)
    assert journal.take_over("m-1", "run-2", 30)["owner"] == "run-2"
    os.waitpid(copies, 0)
    assert state.names("wanted") == []
