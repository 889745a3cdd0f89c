# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The first process of a host: arranges what the host sees, then buries the dead.

It runs as process 1 of new mount, network, UTS, IPC and process namespaces; its death is the death of the host.
"""

from __future__ import annotations

import argparse
import ctypes
import grp
import os
import signal
import socket
import stat
from pathlib import Path

from ..errors import LabError
from ..shell import run
from .files import SHARED_VAR

READY = Path("/run/kvmfleet-lab-ready")
STAGE = Path("/mnt")
KVM_DEVICE = Path("/dev/kvm")


def main() -> None:
    """Become a host."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--name", required=True)
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--tree", type=Path, required=True)
    parser.add_argument("--hide", type=Path, action="append", default=[])
    parser.add_argument("--kvm", action="store_true")
    arguments = parser.parse_args()
    handled = {signal.SIGCHLD, signal.SIGTERM}
    socket.sethostname(arguments.name)
    _stage_the_root(arguments.root)
    _arrange_mounts(arguments.root, arguments.tree, arguments.hide)
    _enter_the_root()
    _arrange_kvm(arguments.kvm)
    signal.pthread_sigmask(signal.SIG_BLOCK, handled)
    READY.touch()
    while signal.sigwait(handled) != signal.SIGTERM:
        _bury_the_dead()


def _stage_the_root(root: Path) -> None:
    """Mount the host's root where it is put together: what is / here, or the root of another generation, which stays as it is."""
    if root == Path("/"):
        _mount("--rbind", "/", str(STAGE))
    else:
        _mount("--options", "bind,ro", str(root), str(STAGE))
        _mount("--rbind", "/dev", f"{STAGE}/dev")


def _arrange_mounts(root: Path, tree: Path, hidden: list[Path]) -> None:
    """Mount the tree's directories and the host's own file systems over those of the root."""
    for name in ("etc", "home", "root", "var"):
        _mount("--rbind", f"{tree}/{name}", f"{STAGE}/{name}")
    for name in SHARED_VAR:
        options = "bind" if root == Path("/") else "bind,ro"
        _mount("--options", options, f"{root}/var/{name}", f"{STAGE}/var/{name}")
    _mount("--types", "proc", "proc", f"{STAGE}/proc")
    run(["umount", "--recursive", "--lazy", f"{STAGE}/sys"], check=False)
    _mount("--types", "sysfs", "sysfs", f"{STAGE}/sys")
    _mount("--types", "tmpfs", "--options", "mode=755", "tmpfs", f"{STAGE}/run")
    for name in ("dev/shm", "tmp"):
        _mount("--types", "tmpfs", "--options", "mode=1777", "tmpfs", f"{STAGE}/{name}")
    for path in hidden:
        covered = STAGE / path.relative_to("/")
        if covered.exists():
            _mount("--types", "tmpfs", "--options", "ro,mode=0", "tmpfs", str(covered))
    for name in ("lock", "sshd"):
        (STAGE / "run" / name).mkdir()


def _enter_the_root() -> None:
    """Make it the root of the mount namespace, which libvirt and nsenter come back to; what was / in a chroot is not."""
    new_root = os.open(STAGE, os.O_RDONLY | os.O_DIRECTORY)
    namespace = os.open("/proc/self/ns/mnt", os.O_RDONLY)
    _call("setns", namespace, 0)
    os.fchdir(new_root)
    _call("pivot_root", b".", os.fsencode(f".{STAGE}"))
    os.chroot(".")
    os.chdir("/")
    os.close(new_root)
    os.close(namespace)
    run(["umount", "--lazy", str(STAGE)])


def _call(function: str, *arguments: object) -> None:
    """Call a function of the C library that Python does not offer."""
    if getattr(ctypes.CDLL(None, use_errno=True), function)(*arguments):
        raise LabError(f"{function}: {os.strerror(ctypes.get_errno())}")


def _arrange_kvm(usable: bool) -> None:
    """Give libvirt's QEMU user the KVM device, or hide a device that exists but runs no guest."""
    if not KVM_DEVICE.exists():
        return
    node = Path("/run/kvm")
    os.mknod(node, stat.S_IFCHR | 0o600, (KVM_DEVICE if usable else Path("/dev/null")).stat().st_rdev)
    if usable:
        os.chown(node, 0, grp.getgrnam("kvm").gr_gid)
        node.chmod(0o660)
    _mount("--bind", str(node), str(KVM_DEVICE))


def _mount(*arguments: str) -> None:
    run(["mount", "--no-canonicalize", *arguments])


def _bury_the_dead() -> None:
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return
