# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether two hosts see one directory: each reads there what the other one has written under a random name.

Names of mounts, servers and filesystems prove nothing: two exports may be called the same, and one may be called differently.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterable
from typing import Any

from .._rules import file_names as _file_names
from .._rules.errors import KvmfleetError
from .._system import whole_file as _whole_file

PREFIX = _file_names.PROBE


def draw(directories: Iterable[str]) -> dict[str, dict[str, str]]:
    """A probe for each directory: the `name` and `content` of a file there that nobody can guess."""
    return {directory: {"name": PREFIX + secrets.token_hex(16), "content": secrets.token_hex(32)} for directory in sorted(set(directories))}


def write(probes: dict[str, dict[str, str]]) -> None:
    """Write the probes; where this host may not write, the other one will read none, and the directory counts as not shared."""
    for directory, probe in probes.items():
        with contextlib.suppress(OSError, KvmfleetError):
            _whole_file.write(os.path.join(directory, probe["name"]), probe["content"].encode())


def sees(directory: str, probe: dict[str, str] | None) -> bool:
    """Whether the probe that another host wrote is in this directory here."""
    if probe is None or os.path.basename(probe["name"]) != probe["name"] or not probe["name"].startswith(PREFIX):
        return False
    try:
        descriptor = os.open(os.path.join(directory, probe["name"]), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return False
    with os.fdopen(descriptor, "rb") as stream:
        return stream.read(len(probe["content"]) + 1) == probe["content"].encode()


def remove(record: dict[str, Any]) -> None:
    """Remove the probes that this host wrote for the operation."""
    for directory, probe in record.get("probes", {}).items():
        for suffix in (_whole_file.NEW_SUFFIX, ""):
            with contextlib.suppress(OSError):
                _whole_file.remove(os.path.join(directory, probe["name"] + suffix))
