# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A file that nbdcopy writes by way of an nbdkit of this host.

Of a file that it writes itself, nbdcopy removes from memory what it has written. The checksum had to read it back from the disk while the guest is down.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import urllib.parse
from collections.abc import Iterator

from .._rules.errors import KvmfleetError
from .._system.processes import kill
from .protocol import start_server

_SOCKET_LIMIT = 107  # sun_path of Linux
_SOCKET, _PIDFILE, _LOG = "file.sock", "file.pid", "file.log"


def available(directory: str) -> bool:
    """Whether there is an nbdkit, and the directory can hold its socket."""
    return shutil.which("nbdkit") is not None and len(os.path.join(directory, _SOCKET)) <= _SOCKET_LIMIT


@contextlib.contextmanager
def served(path: str, directory: str) -> Iterator[tuple[str, int]]:
    """Serve a file for writing, with what that needs in the directory.

    :returns: its URI, and the process that writes it, which is gone afterwards.
    """
    socket, pidfile, log = (os.path.join(directory, name) for name in (_SOCKET, _PIDFILE, _LOG))
    with contextlib.suppress(FileNotFoundError):
        os.unlink(socket)
    server = start_server(
        ["nbdkit", "--foreground", "--unix", socket, "--pidfile", pidfile, "file", f"file={path}"],
        pidfile=pidfile,
        log=log,
        failure=lambda said: KvmfleetError("copy_failed", f"nbdkit cannot serve {path}: {said}", path=path),
        umask=0o077,
    )
    try:
        yield f"nbd+unix:///?socket={urllib.parse.quote(socket)}", server.pid
    finally:
        kill(server)
