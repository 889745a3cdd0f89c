# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Bringing a file to the disk while it is still being written, and while its writer's successor already reads it."""

from __future__ import annotations

import os
import threading

_INTERVAL = 0.5


class Writeback:
    """Syncs a file again and again, so that little is left to wait for at the end."""

    def __init__(self, path: str) -> None:
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        self._complete = threading.Event()
        self._error: OSError | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def complete(self) -> None:
        """Nothing is written any more: what is left goes to the disk while the caller goes on."""
        self._complete.set()

    def wait(self) -> None:
        """Return when all that was written is on the disk; OSError of the first sync that failed."""
        self.complete()
        self._thread.join()
        if self._error:
            raise self._error

    def _run(self) -> None:
        try:
            while not self._complete.wait(_INTERVAL):
                os.fdatasync(self._descriptor)
            os.fsync(self._descriptor)
        except OSError as exc:
            self._error = exc
        finally:
            os.close(self._descriptor)
