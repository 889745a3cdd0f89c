# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a crash of the process or of the power would leave: calls to the system, recorded or broken off."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

NAMING = ("rename", "replace", "link", "unlink", "rmdir")
CALLS = (*NAMING, "fsync", "ftruncate", "fchmod", "fchown", "mkdir")


class Killed(BaseException):
    """What is done when a process dies: nothing."""


class Recorder:
    """The order in which names change, files and directories are brought to the disk, and the journal is written."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, state: Any) -> None:
        self.events: list[tuple[str, ...]] = []
        self.state = state.path + "/"
        for name in (*NAMING, "fsync"):
            monkeypatch.setattr(os, name, self._recorded(name, getattr(os, name)))
        write = type(state).write

        def journal(this: Any, kind: str, name: str, record: dict[str, Any]) -> None:
            self.events.append(("journal", kind, str(record.get("step"))))
            write(this, kind, name, record)

        monkeypatch.setattr(type(state), "write", journal)

    def _recorded(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def act(*args: Any, **options: Any) -> Any:
            if name == "fsync":
                paths = [os.readlink(f"/proc/self/fd/{args[0]}")]
            else:
                places = [options.get("src_dir_fd", options.get("dir_fd")), options.get("dst_dir_fd")]
                paths = [str(arg) if place is None else f"{os.readlink(f'/proc/self/fd/{place}')}/{arg}" for arg, place in zip(args, places)]
            done = function(*args, **options)
            if not paths[0].startswith(self.state):
                self.events.append((name, *paths))
            return done

        return act

    def require_order(self, *before: str) -> None:
        """At each write of the journal all names that were given or taken are on the disk, and before a file gets a name for good its content was.

        :param before: files that were on the disk before this.
        """
        pending: set[str] = set()
        synced = set(before)
        for event, *paths in self.events:
            if event == "fsync":
                synced.add(paths[0])
                pending.discard(paths[0])
            elif event == "journal":
                assert not pending, f"the journal goes on to {paths} while {pending} are not on the disk: {self.events}"
            else:
                pending.update(os.path.dirname(path) for path in paths)
                assert event not in ("link", "replace") or paths[0] in synced, f"{paths[0]} gets the name {paths[1]} without being on the disk: {self.events}"


@contextlib.contextmanager
def dying(monkeypatch: pytest.MonkeyPatch, call: int, *, below: Path, names: tuple[str, ...] = CALLS) -> Iterator[Callable[[], bool]]:
    """Die in the so many-th call to the system, before anything of it is done.

    :param below: the calls of files there count.
    :returns: (as what is yielded) whether it has come to that.
    """
    seen = 0

    def wrapped(function: Callable[..., Any]) -> Callable[..., Any]:
        def act(*args: Any, **options: Any) -> Any:
            nonlocal seen
            place = next((options[key] for key in ("dir_fd", "src_dir_fd") if options.get(key) is not None), args[0])
            where = os.readlink(f"/proc/self/fd/{place}") if isinstance(place, int) else os.fspath(place)
            if where.startswith(str(below)):
                seen += 1
                if seen - 1 >= call:
                    raise Killed
            return function(*args, **options)

        return act

    with monkeypatch.context() as patch:
        for name in names:
            patch.setattr(os, name, wrapped(getattr(os, name)))
        yield lambda: seen > call


@contextlib.contextmanager
def small_filesystem(path: Path, size: str) -> Iterator[Path]:
    """A filesystem of its own that is soon full."""
    path.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size},mode=700", "none", path], check=True)
    try:
        yield path
    finally:
        subprocess.run(["umount", path], check=True)
