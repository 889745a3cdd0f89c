# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An image that boots where secure boot is in force: Debian's signed shim and GRUB, before the kernel of the lab's guests, which Debian has signed."""

from __future__ import annotations

import tempfile
from pathlib import Path

from lab import packages
from lab.fleet import existing_lab, host_named
from lab.shell import SYSTEM_PATH, run

from .lab import Host

_LOADERS = {
    "EFI/BOOT/BOOTX64.EFI": "usr/lib/shim/shimx64.efi.signed",
    "EFI/BOOT/grubx64.efi": "usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed",
    "EFI/debian/grub.cfg": "grub.cfg",
}
_CONFIGURATION = "linux /vmlinuz console=ttyS0,115200 quiet nokaslr mitigations=off no_timer_check random.trust_cpu=on panic=5\ninitrd /initrd\nboot\n"


def put_signed(host: Host, path: str) -> None:
    """Put the image on a host."""
    lab = existing_lab()
    with tempfile.TemporaryDirectory(prefix="kvmfleet-signed-") as directory:
        work = Path(directory)
        for package in packages.download(("grub-efi-amd64-signed", "shim-signed"), work / "packages"):
            packages.unpack(package, work)
        (work / "grub.cfg").write_text(_CONFIGURATION)
        disk = work / "disk.raw"
        run(["qemu-img", "convert", "-f", "qcow2", "-O", "raw", lab.image, str(disk)])
        boot, env = f"{disk}@@1M", {"PATH": SYSTEM_PATH, "MTOOLS_SKIP_CHECK": "1", "LANG": "C.UTF-8"}
        run(["mmd", "-i", boot, "::EFI/debian"], env=env)
        for name, source in _LOADERS.items():
            run(["mcopy", "-o", "-i", boot, str(work / source), f"::{name}"], env=env)
        target = host_named(lab, host.name).files / path.lstrip("/")
        run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", str(disk), str(target)])
        target.chmod(0o444)
