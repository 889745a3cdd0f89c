# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The kernel package: its image, and the modules a guest needs in loading order."""

from __future__ import annotations

import lzma
import re
from pathlib import Path

from ..errors import LabError

WANTED_MODULES = (
    *("virtio_pci", "virtio_blk", "crc32c_generic", "ext4", "virtio_console", "virtio_net", "virtio_rng", "button", "evdev", "tpm_crb"),
    # CD-ROMs: this kernel knows no SATA, which is what most guests have them on, but SCSI.
    *("virtio_scsi", "sr_mod", "isofs"),
    "efivarfs",
)


class Kernel:
    """An unpacked linux-image package."""

    def __init__(self, root: Path) -> None:
        try:
            self.image = next((root / "boot").glob("vmlinuz-*"))
            tree = next(base for base in (root / "lib/modules", root / "usr/lib/modules") if base.is_dir())
            modules = next(tree.iterdir())
        except StopIteration:
            raise LabError(f"no kernel image or no modules below {root}") from None
        self._files = {_module_name(path): path for path in modules.rglob("*.ko*")}
        self._builtin = {_module_name(Path(line)) for line in (modules / "modules.builtin").read_text().splitlines()}

    def modules(self) -> dict[str, bytes]:
        """Map module names to uncompressed modules, dependencies first."""
        ordered: dict[str, bytes] = {}
        for name in WANTED_MODULES:
            self._add(name, ordered)
        return ordered

    def _add(self, name: str, ordered: dict[str, bytes]) -> None:
        if name in ordered or name in self._builtin:
            return
        if name not in self._files:
            raise LabError(f"kernel {self.image.name} has no module {name}")
        content = self._files[name].read_bytes()
        if self._files[name].suffix == ".xz":
            content = lzma.decompress(content)
        depends = re.search(rb"\0depends=([^\0]*)\0", content)
        for needed in depends.group(1).decode().split(",") if depends else ():
            if needed:
                self._add(needed.replace("-", "_"), ordered)
        ordered[name] = content


def _module_name(path: Path) -> str:
    return path.name.split(".ko")[0].replace("-", "_")
