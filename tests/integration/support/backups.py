# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Full and incremental backups of the guest web, made through libvirt as backup programs make them, in a directory that all hosts see."""

from __future__ import annotations

import json

from .guest import Guest
from .lab import Host

_BACKUP = """
cat >/run/backup.xml <<'END'
<domainbackup mode='push'>{incremental}
<disks><disk name='vda' type='file' backup='yes'><driver type='qcow2'/><target file='{target}'/></disk></disks></domainbackup>
END
echo '<domaincheckpoint><name>{checkpoint}</name></domaincheckpoint>' >/run/checkpoint.xml
virsh --quiet backup-begin web /run/backup.xml /run/checkpoint.xml
until virsh --quiet domjobinfo web | grep -q None; do sleep 0.1; done
"""


class Backups:
    """What a backup program has of the guest."""

    def __init__(self, directory: str) -> None:
        self.directory = directory
        self.newest: str | None = None

    def make(self, host: Host, name: str) -> None:
        """Back the guest up with a new checkpoint of that name: all of it, or what was changed since the newest one."""
        incremental = f"<incremental>{self.newest}</incremental>" if self.newest else ""
        host.sh(_BACKUP.format(incremental=incremental, target=self.path(name), checkpoint=name))
        if self.newest:
            host.run("qemu-img", "rebase", "-u", "-f", "qcow2", "-b", self.path(self.newest), "-F", "qcow2", self.path(name))
        self.newest = name

    def make_last(self, guest: Guest, name: str) -> bool:
        """The same of a guest that does not write any more and is off then; whether what could be restored is the disk as it is."""
        host = guest.host
        host.virsh("suspend", guest.name)
        self.make(host, name)
        host.virsh("destroy", guest.name)
        compared = host.attempt("qemu-img", "compare", "-f", "qcow2", "-F", "qcow2", self.path(name), guest.disk_paths[0])
        return compared.returncode == 0

    def path(self, name: str) -> str:
        return f"{self.directory}/{name}.qcow2"

    def bytes_of(self, host: Host, name: str) -> int:
        return host.allocated_bytes(self.path(name))


def checkpoints(host: Host) -> list[str]:
    """Of the guest, in order; each is compared by libvirt with the bitmaps of the guest that runs."""
    names = host.virsh("checkpoint-list", "web", "--name", "--topological").split()
    for name in names:
        host.sh(f"virsh --quiet checkpoint-dumpxml web {name} >/run/{name}.xml")
        host.virsh("checkpoint-create", "web", f"/run/{name}.xml", "--redefine", "--redefine-validate")
    return names


def bitmaps(host: Host, path: str) -> dict[str, list[str]]:
    """Each of an image that nothing has open, with its flags: `in-use` for one that is broken."""
    told = json.loads(host.run("qemu-img", "info", "-f", "qcow2", "--output=json", path))
    return {bitmap["name"]: bitmap["flags"] for bitmap in told["format-specific"]["data"].get("bitmaps", ())}
