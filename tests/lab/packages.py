# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Debian packages: installed on the machine when missing, or only downloaded."""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from .errors import LabError
from .shell import run

HOST_PACKAGES = (
    "e2fsprogs",
    "genisoimage",
    "iproute2",
    "libnbd-bin",
    "libvirt-clients",
    "libvirt-daemon-system",
    "mtools",
    "nbdkit",
    "openssh-client",
    "openssh-server",
    "ovmf",
    "python3-libvirt",
    "qemu-system-x86",
    "qemu-utils",
    "sudo",
    "swtpm",
    "swtpm-tools",
)
POLICY = Path("/usr/sbin/policy-rc.d")
POLICY_TEXT = "#!/bin/sh\n# written by the kvmfleet lab while it installs packages\nexit 101\n"


def ensure_installed(packages: Sequence[str] = HOST_PACKAGES) -> list[str]:
    """Install what is missing, starting no service; return the names."""
    query = run(["dpkg-query", "-W", "-f", "${Package} ${db:Status-Status}\n", *packages], check=False)
    installed = {line.split()[0] for line in query.stdout.splitlines() if line.endswith(" installed")}
    missing = [name for name in packages if name not in installed]
    if missing:
        with _no_services() as lock:
            _apt_get("install", "-y", "--no-install-recommends", *missing, inherit=lock)
    return missing


def missing(packages: Sequence[str]) -> list[str]:
    """What an installation of these would add to this machine: those that it lacks, and those that they depend on, as this release of Debian calls them."""
    return re.findall(r"^Inst (\S+)", _apt_get("--simulate", "install", "--no-install-recommends", *packages), re.MULTILINE)


def download(packages: Sequence[str], target: Path) -> list[Path]:
    """Fetch packages into `target` without installing them."""
    target.mkdir(parents=True, exist_ok=True)
    known = set(target.iterdir())
    _apt_get("-o", "APT::Sandbox::User=root", "download", *packages, cwd=str(target))
    return sorted(set(target.iterdir()) - known)


def unpack(package: Path, target: Path) -> None:
    """Extract the files of a package."""
    target.mkdir(parents=True, exist_ok=True)
    run(["dpkg-deb", "-x", str(package), str(target)])


def remove_leftovers() -> None:
    """Lift the ban on starting services that a killed `up` left behind, once the installation it began has ended."""
    if not POLICY.is_file() or POLICY.read_text() != POLICY_TEXT:
        return
    with POLICY.open() as policy:
        fcntl.flock(policy, fcntl.LOCK_EX)
        POLICY.unlink(missing_ok=True)


@contextmanager
def _no_services() -> Iterator[tuple[int, ...]]:
    """Forbid packages to start services; yield the lock that the installation has to inherit."""
    if POLICY.exists() and POLICY.read_text() != POLICY_TEXT:
        yield ()
        return
    POLICY.write_text(POLICY_TEXT)
    POLICY.chmod(0o755)
    with POLICY.open() as policy:
        fcntl.flock(policy, fcntl.LOCK_EX)
        try:
            yield (policy.fileno(),)
        finally:
            POLICY.unlink(missing_ok=True)


def _apt_get(*arguments: str, cwd: str = "/", inherit: tuple[int, ...] = ()) -> str:
    """Call apt-get, for its output; when it fails, refresh the package lists once and call it again."""
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"}
    command = ["apt-get", "-q", "-o", "DPkg::Lock::Timeout=300", *arguments]
    try:
        return run(command, env=env, cwd=cwd, pass_fds=inherit).stdout
    except LabError:
        run(["apt-get", "-q", "update"], env=env)
        return run(command, env=env, cwd=cwd, pass_fds=inherit).stdout
