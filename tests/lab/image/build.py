# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Assemble the guest image and keep it in the cache."""

from __future__ import annotations

import hashlib
import os
import platform
import re
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from .. import packages
from ..errors import LabError
from ..locking import exclusive
from ..shell import run
from .cpio import CpioArchive
from .disk import DISK_MIB, INODES, build_disk
from .kernel import Kernel

SOURCES = Path(__file__).parent
TOOL_PACKAGES = ("busybox-static", "mtools", "qemu-guest-agent", "syslinux", "syslinux-common", "syslinux-efi", "cloud-guest-utils", "fdisk")
WORK_PREFIX = "build-"
KERNEL_PACKAGE = "linux-image-cloud-amd64"
SYSLINUX_EFI = {
    "EFI/BOOT/BOOTX64.EFI": "usr/lib/SYSLINUX.EFI/efi64/syslinux.efi",
    "EFI/BOOT/ldlinux.e64": "usr/lib/syslinux/modules/efi64/ldlinux.e64",
}


def ensure_image(cache: Path) -> Path:
    """Return the guest image of this builder, building it if the cache does not hold it."""
    return ensure("guest", cache, _root_file_system)


def ensure(kind: str, cache: Path, root_file_system: Callable[[Path, Path], Path], size_mib: int = DISK_MIB, inodes: int = INODES) -> Path:
    """Return an image of this builder with its own kernel and another root file system, building it if the cache does not hold it.

    `root_file_system` is given a directory to work in and that of the unpacked tools, and returns the directory with the files.
    """
    image = cache / f"{kind}-{_digest_of_builder()}.qcow2"
    if not image.exists():
        with exclusive(cache):
            if not image.exists():
                with tempfile.TemporaryDirectory(prefix=WORK_PREFIX, dir=cache) as directory:
                    _assemble(Path(directory), root_file_system, size_mib, inodes).rename(image)
    return image


def remove_unfinished(cache: Path) -> None:
    """Remove what a killed build left in the cache."""
    if cache.is_dir():
        with exclusive(cache):
            for work in cache.glob(f"{WORK_PREFIX}*"):
                shutil.rmtree(work, ignore_errors=True)


def _digest_of_builder() -> str:
    digest = hashlib.sha256(platform.freedesktop_os_release()["VERSION_ID"].encode() if hasattr(platform, "freedesktop_os_release") else b"")
    for path in sorted(SOURCES.rglob("*")):
        if path.is_file() and path.suffix != ".pyc":
            digest.update(f"{path.relative_to(SOURCES)}\0{path.stat().st_mode}\0".encode() + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def _assemble(work: Path, root_file_system: Callable[[Path, Path], Path], size_mib: int, inodes: int) -> Path:
    tools, kernel = _fetch(work)
    initrd = work / "initrd"
    initrd.write_bytes(_initramfs(tools, kernel))
    boot_files = {"vmlinuz": kernel.image, "initrd": initrd, "syslinux.cfg": SOURCES / "boot/syslinux.cfg"}
    boot_files.update({name: tools / source for name, source in SYSLINUX_EFI.items()})
    disk = build_disk(work, tools, boot_files, root_file_system(work, tools), size_mib, inodes)
    finished = work / "guest.qcow2"
    run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", str(disk), str(finished)])
    return finished


def _fetch(work: Path) -> tuple[Path, Kernel]:
    downloads, tools, kernel = work / "packages", work / "tools", work / "kernel"
    wanted = {*TOOL_PACKAGES, *packages.missing(TOOL_PACKAGES)}  # libraries that this machine has are taken from there
    found = {path.name.split("_")[0]: path for path in packages.download([*sorted(wanted), KERNEL_PACKAGE], downloads)}
    for name in wanted:
        packages.unpack(found[name], tools)
    depends = run(["dpkg-deb", "-f", str(found[KERNEL_PACKAGE]), "Depends"]).stdout
    named = re.search(r"linux-image-[^ ,]+", depends)
    if not named:
        raise LabError(f"{KERNEL_PACKAGE} depends on no kernel: {depends.strip()}")
    packages.unpack(packages.download([named.group()], downloads)[0], kernel)
    return tools, Kernel(kernel)


def _busybox(tools: Path) -> Path:
    return next(path for path in (tools / "bin/busybox", tools / "usr/bin/busybox") if path.exists())


def _initramfs(tools: Path, kernel: Kernel) -> bytes:
    archive = CpioArchive()
    for name in ("bin", "dev", "modules", "proc", "root"):
        archive.add_directory(name)
    # There is no /bin/sh yet.
    archive.add_file("init", b"#!/bin/busybox sh\n" + (SOURCES / "initramfs/init").read_bytes(), 0o755)
    archive.add_file("bin/busybox", _busybox(tools).read_bytes(), 0o755)
    modules = kernel.modules()
    for name, content in modules.items():
        archive.add_file(f"modules/{name}", content)
    archive.add_file("modules/order", "".join(f"{name}\n" for name in modules).encode())
    return archive.finish()


def _root_file_system(work: Path, tools: Path) -> Path:
    root = work / "rootfs"
    shutil.copytree(SOURCES / "rootfs", root)
    for name in ("bin", "dev", "lib64", "proc", "root", "run", "sys", "tmp", "usr/bin", "var/log"):
        (root / name).mkdir(parents=True, exist_ok=True)
    (root / "var/run").symlink_to("/run")
    busybox = _busybox(tools)
    shutil.copy2(busybox, root / "bin/busybox")
    for applet in run([str(busybox), "--list"]).stdout.split():
        if applet != "busybox":
            (root / "bin" / applet).symlink_to("busybox")
    (root / "sbin/init").symlink_to("../bin/busybox")
    _add_program(root, "usr/sbin/qemu-ga", tools)
    _add_growth(root, tools)
    return root


def _add_growth(root: Path, tools: Path) -> None:
    """What a guest grows its root filesystem with."""
    shutil.copy2(tools / "usr/bin/growpart", root / "usr/bin/growpart")  # a script
    for name in ("usr/sbin/sfdisk", "usr/sbin/resize2fs", "usr/bin/partx", "usr/bin/flock"):
        _add_program(root, name, tools)


def _add_program(root: Path, name: str, tools: Path) -> None:
    """Copy a program, out of the unpacked packages or of this machine, and the libraries that it is linked to."""
    places = [base / path for base in (tools, Path("/")) for path in (name, name.removeprefix("usr/"))]
    program = next(path for path in places if path.exists())
    shutil.copy2(program, root / name)
    searched = [str(tools / directory) for directory in ("lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu")]
    linked = run(["ldd", str(program)], env={**os.environ, "LD_LIBRARY_PATH": ":".join(searched)}).stdout
    for library in re.findall(r"(/\S+) \(0x", linked):
        target = root / library.removeprefix(str(tools)).lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(library, target)
