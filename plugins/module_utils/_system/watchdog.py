# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""No module waits for ever: a child process does its work, and the module itself waits for that only as long as it gets on, and as somebody wants it.

A call into libvirt or the kernel cannot be interrupted from within. So the child is killed, with all that it started, and is dead when the module
says so: nothing acts afterwards for an operation that others may have taken over. Where the kernel does not let it die, it keeps the lock of the
operation, so that nobody can take that over.

The run that wanted the work is gone when nobody is left who could read the answer: sshd has closed the module's output (with the connection, and
with the channel of a run whose ssh lives on for others), or hangs its terminal up. Then the child is told, and ends where it stands, as it may at any
point; but for the short steps that it finishes first.
"""

from __future__ import annotations

import contextlib
import faulthandler
import json
import mmap
import os
import re
import select
import signal
import struct
import time
import traceback
from collections.abc import Callable, Iterator
from typing import Any

from .._rules.errors import KvmfleetError
from . import processes as _processes

DEFAULT_LIMIT = 60.0
_TELL_TIMEOUT = 1.0
_NOTICE_TIMEOUT = 20.0
_END_TIMEOUT = 5.0
_FRAME = re.compile(r'File "([^"]*?)([^"/]+)\.py", line \d+ in (\S+)')
_BINDING = ("libvirt", "libvirt_qemu")
_OWN = "/plugins/mod"  # modules and module_utils
_ENTRY = "_module."  # what lies above it is the same for all modules
_SIGNAL = signal.SIGUSR2
_GONE = signal.SIGUSR1
_HANGUP = signal.SIGHUP
_OUTPUT = 1
_LONG = 5.0
_UNTIL = struct.Struct("d")
_IS_GONE, _FINISHES = _UNTIL.size, _UNTIL.size + 1
_shared: mmap.mmap | None = None
"""In the child, for the module to read: until when it may do nothing, by the monotonic clock; whether it has noticed that its run is gone; and
whether it finishes a step all the same. Each has its own place, since a signal may come between two of them."""
_limit = DEFAULT_LIMIT
_finishing = 0
_ending = False


class DefectError(Exception):
    """The work raised what it should not; the traceback is that of the child."""


class RunGoneError(BaseException):
    """Nobody wants the work any more. No handler of errors takes it for one that belongs to the work."""


def run(work: Callable[[], Any], limit: float, deserted: Callable[[], bool] = lambda: False) -> Any:
    """What `work()` returns, which a child process does, or raises as KvmfleetError.

    :param limit: seconds for which it may do nothing at all. What it may take altogether is not bounded: a copy takes hours.
    :param deserted: whether its run is gone, though the connection does not tell.
    :raises KvmfleetError: `host_hangs` says what did not answer, and in which step; `module_killed`.
    """
    if not limit > 0:
        raise KvmfleetError("invalid_value", f"hang_timeout: expected seconds, more than 0, got {limit:g}.", value=limit)
    shared = mmap.mmap(-1, _UNTIL.size + 2)
    with os.fdopen(os.memfd_create("told"), "r+b") as told, contextlib.closing(shared), _deaf_to_hangup():
        reading, writing = os.pipe()
        parent = os.getpid()
        child = os.fork()
        if not child:
            _work(work, parent, limit, shared, told.fileno(), writing)
        os.close(writing)
        with os.fdopen(reading, "rb") as answer:
            said = _listen(child, answer.fileno(), shared, limit, deserted)
        if said is None:
            raise _hanging(child, told, limit)
        _gone([child])
    try:
        kind, value = json.loads(said)
    except ValueError:
        message = "The process that did the work was killed. What has become of the operation is in the journal."
        raise KvmfleetError("module_killed", message, pid=child) from None
    if kind == "error":
        raise KvmfleetError(value[0], value[1], **value[2])
    if kind == "defect":
        raise DefectError(value)
    if kind == "gone":
        raise KvmfleetError("run_gone", "The run that wanted this has gone, so it was ended. What has become of the operation is in the journal.")
    return value


@contextlib.contextmanager
def patience(more: float = 0.0) -> Iterator[None]:
    """The one call in this block is known to be silent for longer than others: it may do nothing for five times as long, and some seconds more."""
    if _shared is None:
        yield
        return
    before = _shared[: _UNTIL.size]
    _shared[: _UNTIL.size] = _UNTIL.pack(max(time.monotonic() + _LONG * _limit + more, *_UNTIL.unpack(before)))
    try:
        yield
    finally:
        _shared[: _UNTIL.size] = before


@contextlib.contextmanager
def finishing() -> Iterator[None]:
    """What is done in this block is finished also when the run goes meanwhile; then the work ends behind it.

    It is for what takes a moment, or brings a guest back: elsewhere nothing goes on for long that nobody wants.
    """
    _finish(1)
    try:
        yield
    finally:
        _finish(-1)
    _end_if_gone()


def is_gone() -> bool:
    """In the child: whether it has been told that its run is gone."""
    return _shared is not None and bool(_shared[_IS_GONE])


def _finish(more: int) -> None:
    global _finishing
    _finishing += more
    if _shared is not None:
        _shared[_FINISHES] = bool(_finishing)


def _notice(_number: int, _frame: Any) -> None:
    if _shared is not None:
        _shared[_IS_GONE] = True
    _end_if_gone()


def _end_if_gone() -> None:
    """End the work, once: what is done then to leave all in order is not interrupted."""
    global _ending
    if is_gone() and not _finishing and not _ending:
        _ending = True
        raise RunGoneError


@contextlib.contextmanager
def _deaf_to_hangup() -> Iterator[None]:
    """A terminal that is hung up is noticed by what it does to the output, and the module lives on to see its child end."""
    before = signal.signal(_HANGUP, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(_HANGUP, before)


def _work(work: Callable[[], Any], parent: int, limit: float, shared: mmap.mmap, told: int, writing: int) -> None:
    """In the child. It never returns, and holds nothing of what the module is waited for by: a child that cannot die keeps no connection open."""
    global _shared, _limit, _ending
    try:
        _processes.die_with_parent()
        if os.getppid() != parent:
            os._exit(1)
        _shared, _limit = shared, limit
        null = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(null, descriptor)
        faulthandler.register(_SIGNAL, file=told, all_threads=False, chain=False)
        try:
            for number in (_GONE, _HANGUP):
                signal.signal(number, _notice)
            outcome = json.dumps(["result", work()])
        except KvmfleetError as exc:
            outcome = json.dumps(["error", [exc.code, exc.message, exc.details]])
        except RunGoneError:
            outcome = json.dumps(["gone", None])
        except BaseException:
            outcome = json.dumps(["defect", traceback.format_exc()])
        _ending = True
        with os.fdopen(writing, "w", encoding="ascii") as answer:
            answer.write(outcome)
    finally:
        os._exit(0)


def _listen(child: int, answer: int, shared: mmap.mmap, limit: float, deserted: Callable[[], bool]) -> bytes | None:
    """All that the child has to say, empty if it was killed; None if it did nothing for too long."""
    watch, said, told_at = _processes.Watch(child), b"", None
    interval = max(0.1, min(1.0, limit / 10))
    poll = select.poll()
    poll.register(answer, select.POLLIN)
    poll.register(_OUTPUT, 0)  # an error or a hang-up is told all the same, and of a file neither
    while True:
        events = dict(poll.poll(1000 * interval))
        if _OUTPUT in events:
            poll.unregister(_OUTPUT)
        if told_at is None and (events.get(_OUTPUT, 0) & (select.POLLERR | select.POLLHUP) or (not events and deserted())):
            told_at = time.monotonic()
            os.kill(child, _GONE)
        if answer in events:
            chunk = os.read(answer, 1 << 20)
            if not chunk:
                return said
            said += chunk
            continue
        if told_at is not None and not (shared[_IS_GONE] or shared[_FINISHES]) and time.monotonic() - told_at > _NOTICE_TIMEOUT:
            _kill(child)  # it is in a call that cannot be interrupted from within
            return b'["gone", null]'
        if watch.silence() > limit and time.monotonic() > _UNTIL.unpack(shared[: _UNTIL.size])[0]:
            return None


def _hanging(child: int, told: Any, limit: float) -> KvmfleetError:
    """End the child with all below it, and say what it was waiting for."""
    letter, place = _processes.state(child)
    programs = [_processes.command_line(pid) for pid in _processes.below(child)[1:]]
    frames = _frames(child, told)
    ended = _kill(child)
    own = [_step(directory, name, function) for directory, name, function in reversed(frames) if _OWN in f"/{directory}"]
    own = own[1 + max((number for number, step in enumerate(own) if step.startswith(_ENTRY)), default=-1) :]
    call = next((function for _directory, name, function in frames[:1] if name in _BINDING), None)
    details = {"seconds": limit, "step": own, "programs": programs, "kernel": place, "state": letter, "pid": child, "ended": ended}
    if call is not None:
        what = f"libvirtd has not answered {call}() for {limit:g} s"
        advice = "Look at it there (systemctl status libvirtd virtqemud); guests go on running while it is restarted."
    elif programs:
        what = f"{programs[-1]} has done nothing for {limit:g} s"
        advice = "Look at the storage that it works on, a network file system first."
    else:
        what = f"the system has not answered for {limit:g} s" + (f" (in the kernel: {place})" if place not in ("", "0") else "")
        advice = "Look at its storage, a network file system first."
    step = f", at step {' > '.join(own[-3:])}" if own else ""
    rest = (
        "What this module had begun was ended with it."
        if ended
        else f"Process {child} cannot be ended before the kernel lets it go: until then it holds the lock of the operation, which nobody can take over."
    )
    return KvmfleetError("host_hangs", f"The host hangs: {what}{step}. {rest} {advice}", **details)


def _step(directory: str, name: str, function: str) -> str:
    """As `_storage.qemu_img.chain`, with the room that a file of ours lies in."""
    room = directory.rstrip("/").rpartition("/")[2]
    return f"{room}.{name}.{function}" if room.startswith("_") else f"{name}.{function}"


def _frames(child: int, told: Any) -> list[tuple[str, str, str]]:
    """Directory, module and function of each call that the child is in, the innermost first. A child that the kernel holds cannot tell."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(child, _SIGNAL)
    deadline, text, complete = time.monotonic() + _TELL_TIMEOUT, "", False
    while time.monotonic() < deadline and not complete:
        time.sleep(0.05)
        told.seek(0)
        before, text = text, told.read().decode(errors="replace")
        complete = bool(text) and text == before
    return _FRAME.findall(text)


def _kill(child: int) -> bool:
    """Whether the child, and all below it, are dead."""
    family = _processes.below(child)
    for pid in family:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return _gone(family)


def _gone(family: list[int]) -> bool:
    """Wait a moment for processes that have ended, or are about to."""
    deadline = time.monotonic() + _END_TIMEOUT
    while True:
        with contextlib.suppress(ChildProcessError):
            os.waitpid(family[0], os.WNOHANG)
        if not any(_processes.state(pid)[0] for pid in family):
            return True
        if time.monotonic() > deadline:
            return False
        time.sleep(0.001)
