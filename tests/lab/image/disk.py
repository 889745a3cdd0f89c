# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A bootable disk (MBR, FAT with SYSLINUX for BIOS and UEFI, ext4) made without loop devices or mounts."""

from __future__ import annotations

import struct
from pathlib import Path

from ..shell import SYSTEM_PATH, run

MIB = 1024 * 1024
SECTOR = 512
DISK_MIB = 512
INODES = 4096
BOOT_START_MIB = 1
BOOT_MIB = 47
ROOT_START_MIB = BOOT_START_MIB + BOOT_MIB
EFI_SYSTEM_PARTITION = 0xEF
LINUX = 0x83


def build_disk(work: Path, tools: Path, boot_files: dict[str, Path], rootfs: Path, size_mib: int, inodes: int) -> Path:
    """Return a raw disk in `work`; `tools` holds the unpacked packages of SYSLINUX and mtools."""
    disk = work / "disk.raw"
    with disk.open("wb") as image:
        image.write(_boot_record(tools, size_mib))
        image.truncate(size_mib * MIB)
    _insert(_boot_partition(work, tools, boot_files), disk, BOOT_START_MIB)
    _insert(_root_partition(work, rootfs, size_mib - ROOT_START_MIB, inodes), disk, ROOT_START_MIB)
    return disk


def _boot_record(tools: Path, size_mib: int) -> bytes:
    code = (tools / "usr/lib/syslinux/mbr/mbr.bin").read_bytes().ljust(440, b"\0")
    return (
        code
        + b"kfl1\0\0"
        + _partition(EFI_SYSTEM_PARTITION, BOOT_START_MIB, BOOT_MIB, active=True)
        + _partition(LINUX, ROOT_START_MIB, size_mib - ROOT_START_MIB)
        + bytes(32)
        + b"\x55\xaa"
    )


def _partition(kind: int, start_mib: int, size_mib: int, active: bool = False) -> bytes:
    unused_chs = b"\xfe\xff\xff"
    return struct.pack("<B3sB3sII", 0x80 if active else 0, unused_chs, kind, unused_chs, start_mib * MIB // SECTOR, size_mib * MIB // SECTOR)


def _boot_partition(work: Path, tools: Path, files: dict[str, Path]) -> Path:
    image = work / "boot.fat"
    env = {"PATH": f"{tools}/usr/bin:{SYSTEM_PATH}", "MTOOLS_SKIP_CHECK": "1", "LANG": "C.UTF-8"}
    with image.open("wb") as file:
        file.truncate(BOOT_MIB * MIB)
    sectors, hidden = BOOT_MIB * MIB // SECTOR, BOOT_START_MIB * MIB // SECTOR
    run(["mformat", "-i", str(image), "-T", str(sectors), "-h", "64", "-s", "32", "-H", str(hidden), "-v", "KVMFLEET", "::"], env=env)
    for directory in sorted({str(parent) for name in files for parent in Path(name).parents if str(parent) != "."}):
        run(["mmd", "-i", str(image), f"::{directory}"], env=env)
    for name, source in files.items():
        run(["mcopy", "-i", str(image), str(source), f"::{name}"], env=env)
    run(["syslinux", "--install", str(image)], env=env)
    return image


def _root_partition(work: Path, rootfs: Path, size_mib: int, inodes: int) -> Path:
    image = work / "root.ext4"
    options = ["-q", "-F", "-t", "ext4", "-m", "0", "-N", str(inodes), "-L", "kvmfleet", "-E", "lazy_itable_init=0,lazy_journal_init=0", "-d", str(rootfs)]
    run(["mke2fs", *options, str(image), f"{size_mib}M"], env={"PATH": SYSTEM_PATH})
    return image


def _insert(part: Path, disk: Path, start_mib: int) -> None:
    run(["dd", f"if={part}", f"of={disk}", "bs=1M", f"seek={start_mib}", "conv=notrunc,sparse", "status=none"])
    part.unlink()
