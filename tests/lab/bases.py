# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Base images on hosts: every host has its own copy."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

from .errors import LabError
from .host import Host
from .shell import run

DIRECTORY = Path("/var/lib/libvirt/images/base")
DEFAULT_NAME = "kvmfleet-guest"
STAMP_OFFSET = 8192
"""In the gap between the boot record and the first partition."""
STAMP_SIZE = 512


def path_of(name: str) -> Path:
    """Path of a base on every host that holds it."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        raise LabError(f"a base's name must consist of letters, digits, '.', '_' and '-': {name!r}")
    return DIRECTORY / f"{name}.qcow2"


def held(host: Host) -> list[str]:
    """Names of the bases that a host holds."""
    return sorted(path.stem for path in _on_machine(host, DIRECTORY).glob("*.qcow2"))


def ensure(host: Host, name: str) -> None:
    """Put a base on a host unless it holds one of that name."""
    if not _on_machine(host, path_of(name)).exists():
        put(host, name)


def put(host: Host, name: str, stamp: str | None = None, image: Path | None = None) -> None:
    """Copy an image, by default that of the lab's guests, to a host; bases with the same stamp (by default the name) have the same content on all hosts."""
    target = _on_machine(host, path_of(name))
    if target.exists():
        raise LabError(f"{host.name} holds a base {name} already: remove it first")
    unfinished = target.with_suffix(".new")
    run(["cp", "--sparse=always", "--reflink=auto", str(image or host.lab.image), str(unfinished)])
    with tempfile.NamedTemporaryFile(prefix="kvmfleet-lab-") as content:
        content.write((stamp or name).encode()[:STAMP_SIZE].ljust(STAMP_SIZE, b"\0"))
        content.flush()
        run(["qemu-io", "-f", "qcow2", "-c", f"write -s {content.name} {STAMP_OFFSET} {STAMP_SIZE}", str(unfinished)])
    unfinished.chmod(0o444)
    unfinished.rename(target)


def remove(host: Host, name: str) -> None:
    """Remove a base from a host."""
    target = _on_machine(host, path_of(name))
    if not target.exists():
        raise LabError(f"{host.name} holds no base {name}")
    target.unlink()


def _on_machine(host: Host, path: Path) -> Path:
    return host.files / path.relative_to("/")
