# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A run that has vanished without a word, as with the power of its controller: its connections stay open, so nothing tells the module that it is alone.

While a copy runs, its controller asks now and then how far it is, and leaves a sign of that beside the answer. A copy whose controller has asked, and
does so no more, is deserted; that alone does not end it, since a controller may sleep. But nobody else who wants the operation waits for it any longer.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator

from .progress import peer_directory
from .state_dir import StateDir

ASKED = "asked"
"""The file with the owner of the operation, which its controller writes again and again (the action plugin `destination_copy`)."""
SILENCE = 60.0
"""Seconds without a sign after which a run counts as gone; no controller asks as seldom, and ssh gives up a silent host in this time too."""
_KIND = "wanted"
"""Files that are there while somebody waits, for the action plugin `migration` too."""
_OWNER_LIMIT = 1024


@contextlib.contextmanager
def wanted(state: StateDir, uuid: str, seconds: float) -> Iterator[None]:
    """Meanwhile, and for so many seconds at most, somebody else waits for the operation."""
    state.write(_KIND, uuid, {"until": time.time() + seconds})
    try:
        yield
    finally:
        state.remove(_KIND, uuid)  # it may be gone: somebody else waited too


def is_deserted(state: StateDir, uuid: str, owner: str) -> bool:
    """Whether the run that copies for this operation has fallen silent, and somebody else waits for it."""
    path = os.path.join(peer_directory(state, uuid), ASKED)
    try:
        silent = time.time() - os.stat(path).st_mtime
        with open(path, encoding="utf-8", errors="replace") as stream:
            is_own = stream.read(_OWNER_LIMIT) == owner
    except OSError:
        return False
    return is_own and silent > SILENCE and (state.read(_KIND, uuid) or {"until": 0})["until"] > time.time()
