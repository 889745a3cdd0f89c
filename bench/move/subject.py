# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The guest that moves: one overlay with random data on a base with random data, restored before every move, compared after it.

The guest's own partition ends at 512 MiB and is not grown. Behind it lies the data of the base, and behind that the data of the overlay, written from
outside, since a guest without KVM would write for minutes.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

from lab import bases, guest
from lab.host import Host
from lab.shell import run

from bench.move.pair import STATE, Pair
from bench.move.scripts import INCOMING

MIB = 2**20
NAME = "bench"
SYSTEM_MIB = 512
PROBE_MIB = 4
CHUNK = 16 * MIB
IMAGES = "/var/lib/libvirt/images"
FILE = "/root/data"
BOOT_TIMEOUT = 180.0


class WrongData(RuntimeError):
    """The guest is not what it was before it moved."""


def room_needed(overlays: list[int], bases_mib: list[int]) -> int:
    """Bytes: the pristine overlay, that of each host and the random file; of each base that of each host; the merged file at both ends."""
    overlay, base = max(overlays), max(bases_mib)
    return (4 * overlay + 3 * base + 2 * (overlay + base) + 1024) * MIB


@dataclass
class Subject:
    """The guest, for one size of overlay and of base."""

    pair: Pair
    overlay_mib: int
    base_mib: int

    disk = f"{IMAGES}/{NAME}.qcow2"

    @property
    def base_name(self) -> str:
        return f"{NAME}-{self.base_mib}"

    @property
    def base(self) -> str:
        return str(bases.path_of(self.base_name))

    @property
    def _pristine(self) -> Path:
        return self.pair.lab.directory / f"{NAME}-pristine.qcow2"

    def make(self) -> None:
        """Once: the base on both hosts, the overlay and the definition."""
        self.clear()
        self._make_base()
        source = self.pair.source
        size = -(-(SYSTEM_MIB + self.base_mib + self.overlay_mib) // 1024)
        guest.create(self.pair.lab, guest.GuestOrder(name=NAME, flavor="small", host=source.name, base=self.base_name, disk_gb=size))
        self._file_sum = self._inside(f"dd if=/dev/urandom of={FILE} bs=1M count=1 2>/dev/null; sync; sha256sum {FILE}", source)
        self._shut_down(source)
        self._definition = source.virsh("dumpxml", "--inactive", "--security-info", NAME).stdout
        random = f"{IMAGES}/random"
        _fill(self.pair.on_machine(source, random), self.overlay_mib)
        source.run(_writing(random, self.disk, SYSTEM_MIB + self.base_mib, self.overlay_mib))
        source.run(["rm", random])
        _copy(self.pair.on_machine(source, self.disk), self._pristine)
        self._probes = [_checksum(source, self.disk, offset, PROBE_MIB) for offset in self._probed]
        self._sum = _checksum(source, self.disk, SYSTEM_MIB, self.base_mib + self.overlay_mib)

    def restore(self) -> None:
        """The guest runs on the source as if it had never moved; what is copied is in memory and on disk."""
        self.clear()
        disk = self.pair.on_machine(self.pair.source, self.disk)
        _copy(self._pristine, disk)
        run(["sync", str(disk)])
        self.pair.source.virsh("define", "/dev/stdin", stdin=self._definition)
        self.pair.source.virsh("start", NAME)
        guest.wait(self.pair.lab, NAME, self.pair.source.name, BOOT_TIMEOUT)
        time.sleep(1)

    def clear(self) -> None:
        """No trace of the guest or of an operation on either host; what is known of bases stays."""
        for host in (self.pair.source, self.pair.destination):
            host.virsh("destroy", NAME, check=False)
            host.virsh("undefine", NAME, check=False)
            host.run(["sh", "-c", f"rm -rf {self.disk}* {INCOMING}/* {STATE}/migrations {STATE}/claims {STATE}/exports {STATE}/kept"])

    def remove(self) -> None:
        """Nothing is left of it but the lab."""
        self.clear()
        self._pristine.unlink(missing_ok=True)
        for host in (self.pair.source, self.pair.destination):
            self.pair.on_machine(host, self.base).unlink(missing_ok=True)

    def allocated_bytes(self) -> int:
        """What the disk takes at the source, under whatever names a way has left it there, layers included."""
        blocks = self.pair.source.run(["sh", "-c", f"stat --format=%b {self.disk}*"]).stdout.split()
        return sum(map(int, blocks)) * 512

    def prove(self) -> None:
        """It runs at the destination and nowhere else, sees its data, and the whole of what lies behind its partition is what it was."""
        destination = self.pair.destination
        state = self.pair.source.virsh("domstate", NAME, check=False).stdout.strip()
        if state not in ("", "shut off"):
            raise WrongData(f"the guest is {state} at the source")
        looks = [f"dd if=/dev/vda bs=1M skip={offset} count={PROBE_MIB} 2>/dev/null | sha256sum" for offset in self._probed]
        if [self._inside(look, destination).split()[0] for look in looks] != self._probes or self._inside(f"sha256sum {FILE}", destination) != self._file_sum:
            raise WrongData("the guest sees other data than before it moved")
        self._shut_down(destination)
        destination.run(["qemu-img", "check", "-q", "-f", "qcow2", self.disk])
        if _checksum(destination, self.disk, SYSTEM_MIB, self.base_mib + self.overlay_mib) != self._sum:
            raise WrongData("the disk at the destination holds other data than before the guest moved")

    @property
    def _probed(self) -> tuple[int, int, int]:
        """Where it is looked into the data: the beginnings of the base's and of the overlay's, and the end."""
        overlay = SYSTEM_MIB + self.base_mib
        return SYSTEM_MIB, overlay, overlay + self.overlay_mib - PROBE_MIB

    def _inside(self, script: str, host: Host) -> str:
        done = guest.execute(self.pair.lab, NAME, ["sh", "-c", script], host.name, BOOT_TIMEOUT)
        if done.status:
            raise RuntimeError(f"in the guest: {script}: exit status {done.status} {done.stderr.decode()}")
        return done.stdout.decode()

    def _shut_down(self, host: Host) -> None:
        host.virsh("shutdown", NAME)
        deadline = time.monotonic() + BOOT_TIMEOUT
        while host.virsh("domstate", NAME).stdout.strip() != "shut off":
            if time.monotonic() > deadline:
                raise RuntimeError(f"the guest does not shut down on {host.name}")
            time.sleep(0.2)

    def _make_base(self) -> None:
        made = self.pair.on_machine(self.pair.source, self.base)
        if made.exists():
            return
        made.parent.mkdir(parents=True, exist_ok=True)
        random, unfinished = self.pair.lab.directory / "random", made.with_suffix(".new")
        _copy(Path(self.pair.lab.image), unfinished)
        run(["qemu-img", "resize", "-q", "-f", "qcow2", str(unfinished), str((SYSTEM_MIB + self.base_mib) * MIB)])
        _fill(random, self.base_mib)
        run(_writing(str(random), str(unfinished), SYSTEM_MIB, self.base_mib))
        random.unlink()
        unfinished.chmod(0o444)
        copy = self.pair.on_machine(self.pair.destination, self.base)
        copy.parent.mkdir(parents=True, exist_ok=True)
        _copy(unfinished, copy)
        copy.chmod(0o444)
        unfinished.rename(made)


def _fill(path: Path, mib: int) -> None:
    with path.open("wb") as stream:
        for _chunk in range(0, mib * MIB, CHUNK):
            stream.write(os.urandom(CHUNK))
        stream.truncate(mib * MIB)


def _copy(source: Path, target: Path) -> None:
    run(["cp", "--sparse=always", "--reflink=auto", str(source), str(target)])


def _part(image: str, offset_mib: int, mib: int) -> str:
    """A part of what an image holds, for qemu-img."""
    return f"driver=raw,offset={offset_mib * MIB},size={mib * MIB},file.driver=qcow2,file.file.driver=file,file.file.filename={image}"


def _writing(path: str, image: str, offset_mib: int, mib: int) -> list[str]:
    """The command that writes a file into an image."""
    source = f"driver=raw,file.driver=file,file.filename={path}"
    return ["qemu-img", "convert", "-n", "--image-opts", "--target-image-opts", source, _part(image, offset_mib, mib)]


def _checksum(host: Host, image: str, offset_mib: int, mib: int) -> str:
    """Of what a guest would read there. qemu-img compare takes what a base holds for a hole in a part of an image."""
    read = f"nbdcopy --no-extents -- [ qemu-nbd --read-only --image-opts {_part(image, offset_mib, mib)} ] - | sha256sum"
    return host.run(["bash", "-o", "pipefail", "-c", read]).stdout.split()[0]
