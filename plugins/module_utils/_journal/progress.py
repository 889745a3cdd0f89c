# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How far a copy is: a small document beside the client's key, for whoever asks this host meanwhile. It is gone when the copy has ended."""

from __future__ import annotations

import collections
import contextlib
import json
import os
import shutil
import time
from collections.abc import Iterator
from typing import Any

from .._rules.errors import KvmfleetError
from .._system import whole_file as _whole_file
from .state_dir import StateDir

NAME = "progress.json"
_INTERVAL = 1.0
_RATE_WINDOW = 10.0
_STALE = 15.0


class Progress:
    """Writes the document, at most once a second and without waiting for the disk."""

    def __init__(self, directory: str) -> None:
        self.path = os.path.join(directory, NAME)
        self.total: int | None = None
        self.resumed = 0
        self._samples: collections.deque[tuple[float, int]] = collections.deque()
        self._written = 0.0

    def begin(self, total: int) -> None:
        """The files that count have so many bytes of data."""
        self.total = total

    def reached(self, done: int) -> None:
        """So many of these bytes are here."""
        now = time.monotonic()
        if self.total is None or now - self._written < _INTERVAL:
            return
        self._written = now
        done = min(done, self.total)
        if self._samples and done < self._samples[-1][1]:
            self._samples.clear()
        self._samples.append((now, done))
        while now - self._samples[0][0] > _RATE_WINDOW:
            self._samples.popleft()
        since, before = self._samples[0]
        rate = (done - before) / (now - since) if now > since else 0.0
        document = {
            "bytes_done": done,
            "bytes_total": self.total,
            "percent": round(100 * done / self.total, 1) if self.total else 100.0,
            "rate": round(rate),
            "eta": round((self.total - done) / rate, 1) if rate else None,
            "resumed": self.resumed,
            "updated_at": time.time(),
        }
        # A full disk below the state directory is no reason to end the copy.
        with contextlib.suppress(OSError, KvmfleetError):
            _whole_file.write(self.path, json.dumps(document).encode(), durable=False)


def peer_directory(state: StateDir, uuid: str) -> str:
    """The directory of an operation's copy at the host that receives it."""
    return os.path.join(state.path, "exports", uuid + ".peer")


@contextlib.contextmanager
def shown(state: StateDir, uuid: str) -> Iterator[Progress]:
    """The progress of a copy that does not come through the channel."""
    state.ensure("exports")
    directory = peer_directory(state, uuid)
    os.makedirs(directory, mode=0o700, exist_ok=True)
    try:
        yield Progress(directory)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def read(state: StateDir, uuid: str) -> dict[str, Any] | None:
    """The document of an operation's copy that runs now, else None."""
    with contextlib.suppress(OSError, ValueError), open(os.path.join(peer_directory(state, uuid), NAME), encoding="utf-8") as stream:
        document = json.load(stream)
        if abs(time.time() - document["updated_at"]) < _STALE:
            return document
    return None


def added(state: StateDir, record: dict[str, Any]) -> dict[str, Any]:
    """A record, with the key `progress` while its copy runs here."""
    document = read(state, record["uuid"])
    return record if document is None else dict(record, progress=document)
