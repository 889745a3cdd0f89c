# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A guest, seen from inside and from the hosts that define it."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from lab import guest
from lab.fleet import existing_lab

from .lab import IMAGES, Host, Lab

DATA = "/root/data"
BOOT_TIMEOUT = 120.0
_LOOK = f"""
nproc
awk '/^MemTotal:/ {{ print $2 }}' /proc/meminfo
cat /sys/block/vda/size /proc/sys/kernel/random/boot_id
sha256sum {DATA} 2>/dev/null | cut -d ' ' -f 1
"""


@dataclass(frozen=True)
class Inside:
    """What the guest itself says."""

    vcpus: int
    memory_mb: float
    disk_gb: float
    boot_id: str
    data: str | None

    def is_flavor(self, flavor: dict[str, int]) -> bool:
        """Whether this is the flavor; a kernel keeps up to a fifth of a small memory for itself."""
        return (self.vcpus, self.disk_gb) == (flavor["vcpus"], flavor["disk"]) and 0.8 * flavor["ram"] < self.memory_mb <= flavor["ram"]


class Guest:
    """One guest of the lab."""

    def __init__(self, lab: Lab, name: str) -> None:
        self.lab = lab
        self.name = name
        self.disk = f"{IMAGES}/{name}.qcow2"
        self.boot_timeout = BOOT_TIMEOUT

    def exec(self, *argv: str) -> str:
        """Run a command inside, as soon as the guest has booted; its output."""
        done = guest.execute(existing_lab(), self.name, argv, None, self.boot_timeout)
        assert done.status == 0, f"{' '.join(argv)} in guest {self.name}: exit status {done.status}\n{done.stdout!r}{done.stderr!r}"
        return done.stdout.decode().rstrip("\n")

    def wait(self) -> Guest:
        """Wait until the guest has booted."""
        guest.wait(existing_lab(), self.name, None, self.boot_timeout)
        return self

    def look(self) -> Inside:
        """Look inside, as soon as it has booted."""
        self.wait()
        vcpus, memory, sectors, boot_id, *data = self.exec("sh", "-c", _LOOK).splitlines()
        return Inside(int(vcpus), int(memory) / 1024, int(sectors) / 2**21, boot_id, data[0] if data else None)

    def write(self, mib: int = 1) -> str:
        """Fill the data file with random bytes; its checksum."""
        script = f"dd if=/dev/urandom of={DATA} bs=1M count={mib} 2>/dev/null && sync && sha256sum {DATA}"
        return self.exec("sh", "-c", script).split()[0]

    def shut_down(self) -> None:
        """Let the guest power itself off, and wait until it is off."""
        self.host.sh(f"virsh --quiet shutdown {self.name} --mode agent; until [ \"$(virsh domstate {self.name})\" = 'shut off' ]; do sleep 0.2; done")

    @property
    def hosts(self) -> list[str]:
        """The hosts that define the guest."""
        return [host.name for host in guest.hosts_defining(existing_lab(), self.name)]

    @property
    def host(self) -> Host:
        """The one host that defines the guest."""
        (name,) = self.hosts
        return self.lab[name]

    @property
    def state(self) -> str:
        """running or shut off, on the one host that defines it."""
        return self.host.virsh("domstate", self.name)

    @property
    def xml(self) -> str:
        return self.host.virsh("dumpxml", "--inactive", "--security-info", self.name)

    @property
    def identity(self) -> tuple[str, ...]:
        """uuid, machine type and MACs."""
        return tuple(re.findall(r"<uuid>.*?</uuid>|machine='[^']*'|<mac address='[^']*'/>", self.xml))

    @property
    def disk_paths(self) -> list[str]:
        """Paths of the disks in the definition."""
        return re.findall(r"<source file='([^']*)'", self.xml)

    @property
    def defined(self) -> dict[str, float]:
        """The flavor as the definition and the disk have it, for a guest that is off."""
        xml = self.xml
        memory, vcpus = re.search(r"<memory unit='KiB'>(\d+)<", xml), re.search(r"<vcpu[^>]*>(\d+)<", xml)
        disk = json.loads(self.host.run("qemu-img", "info", "--force-share", "-f", "qcow2", "--output=json", self.disk_paths[0]))
        return {"vcpus": int(vcpus[1]), "ram": int(memory[1]) / 1024, "disk": disk["virtual-size"] / 2**30}


class Guests:
    """Makes guests and removes them at the end of a test."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.made: dict[str, Guest] = {}

    def create(self, name: str, host: str, *options: str, flavor: str = "small", start: bool = True) -> Guest:
        """Make a guest and wait for its boot.

        :param options: further options of `script/lab guest create`.
        """
        self.lab.call("guest", "create", name, "--flavor", flavor, "--host", host, *([] if start else ["--no-start"]), *options)
        made = self.made[name] = Guest(self.lab, name)
        return made.wait() if start else made

    def delete_all(self) -> None:
        for name in list(self.made):
            self.lab.call("guest", "delete", name, check=False)
            del self.made[name]
