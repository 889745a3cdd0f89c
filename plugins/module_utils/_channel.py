# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The channel: files of one operation, served read-only over NBD with TLS and a one-time key, from source to destination.

`_export` is the source's end, `_serving` the program that it serves with, `_pull` the destination's end; here is what they agree on.
"""

from __future__ import annotations

import ctypes
import os
import signal

USER = "kvmfleet"
KEY_FILE = "keys.psk"  # the name that QEMU looks for
MANIFEST = "manifest"
DIGEST = "digest-"  # with the name of an export: the document with its digests
_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None)


def write_key(path: str, key: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as stream:
        stream.write(f"{USER}:{key}\n")


def die_with_parent() -> None:
    """In a child, before it becomes another program: be killed when the thread ends that started it."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def last_line(path: str) -> str:
    with open(path, encoding="utf-8", errors="replace") as stream:
        lines = [line.strip() for line in stream.read()[-4096:].splitlines() if line.strip()]
    return lines[-1] if lines else "no message"
