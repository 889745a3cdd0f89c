# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Other people's hands: what somebody does on a host who does not know of an operation, what he relies on afterwards, and how he takes it back.

The guest has its system on vda and data of its own on vdb.
"""

from __future__ import annotations

import re
import threading
import time

from .faults import Subject, eventually, write_files
from .guest import Guest
from .lab import IMAGES, Host, Lab

DATA_DISK = f"{IMAGES}/web-data.qcow2"
_DESK = """<domain type='qemu'><name>{name}</name><memory unit='MiB'>64</memory><vcpu>1</vcpu><os><type arch='x86_64' machine='q35'>hvm</type></os>
<devices><disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='{disk}'/><target dev='vda' bus='virtio'/></disk></devices></domain>"""
_SECTOR = "qemu-img dd -U -f qcow2 -O raw bs=512 count=1 if={path} of=/tmp/sector && head -c 16 /tmp/sector"
SLOW = 12  # seconds that a slow guest takes to shut down


def disks_of(xml: str) -> dict[str, str]:
    """Target -> path of the disks of a definition."""
    found = re.findall(r"<disk .*?</disk>", xml, re.DOTALL)
    paths = {re.search(r"<target dev='(\w+)'", disk)[1]: re.search(r"<source file='([^']*)'", disk) for disk in found}
    return {target: path[1] for target, path in paths.items() if path}


class Hand:
    """One act of somebody else.

    `needs`: what the guest must be for it, `running`, `off` or `any`, which it may even be nowhere. `leaves`: the states that the guest may be in
    afterwards where nothing else was changed; None where it is what it was. `words`: one of them is in every refusal that the act is the reason of.
    `deaf`: no host answers questions as long as the act lasts.
    """

    needs = "running"
    leaves: tuple[str, ...] | None = None
    words: tuple[str, ...] = ()
    extra: dict[str, object] = {}
    deaf = False

    def __init__(self, lab: Lab, subject: Subject) -> None:
        self.lab, self.subject, self.guest = lab, subject, subject.guest
        self.host: Host | None = None

    def possible(self) -> bool:
        """Whether somebody could do that now."""
        hosts = self.guest.hosts
        if self.needs == "any":
            return True
        return len(hosts) == 1 and self.guest.state == {"running": "running", "off": "shut off"}[self.needs]

    def do(self) -> None:
        """Do it, on the host that has the guest."""
        self.host = self.guest.host if self.guest.hosts else None
        self.act(self.guest, self.host)

    def act(self, guest: Guest, host: Host) -> None:
        raise NotImplementedError

    def intact(self) -> None:
        """What somebody relies on since then is there."""

    def undo(self) -> None:
        """Take it back, whatever has become of the guest meanwhile."""

    @classmethod
    def paths(cls, target: str, before: str) -> set[str | None]:
        """Where a disk of the guest may lie where nothing else was changed; None where it may have been taken away."""
        return {before}

    def _start(self) -> None:
        """The guest runs, where it is defined."""
        if self.guest.hosts and self.guest.state == "shut off":
            self.guest.host.virsh("start", "web")


class Snapshot(Hand):
    """An external snapshot over the disk of the system, as a nightly backup makes it; libvirt is told to forget it."""

    options: tuple[str, ...] = ("--no-metadata",)
    words = ("nightly", "snapshot")
    file = f"{IMAGES}/web.nightly.qcow2"

    def act(self, guest: Guest, host: Host) -> None:
        self.below = disks_of(host.virsh("dumpxml", "web"))["vda"]
        over = [f"vda,file={self.file}", "vdb,snapshot=no"]
        host.virsh("snapshot-create-as", "web", "nightly", "--disk-only", *self.options, *[word for spec in over for word in ("--diskspec", spec)])

    @classmethod
    def paths(cls, target: str, before: str) -> set[str | None]:
        return {cls.file} if target == "vda" else {before}

    def intact(self) -> None:
        if self.host.exists(self.file):
            self.host.run("qemu-img", "info", "--backing-chain", "--force-share", self.file)

    def undo(self) -> None:
        if self._is_the_disk():
            if self.options == ():
                self.host.virsh("snapshot-delete", "web", "nightly", "--metadata", check=False)
            self._start()
            self.host.virsh("blockcommit", "web", "vda", "--base", self.below, "--active", "--pivot", "--wait")
        if not self._is_the_disk():
            self.host.run("rm", "-f", self.file)

    def _is_the_disk(self) -> bool:
        return self.guest.hosts == [self.host.name] and disks_of(self.guest.xml).get("vda") == self.file


class KnownSnapshot(Snapshot):
    """One that libvirt lists."""

    options = ()


class Detached(Hand):
    """The data disk is taken from the guest, live and in its definition; whoever did it wants what is on it."""

    words = ("vdb", "web-data", "was changed")

    def act(self, guest: Guest, host: Host) -> None:
        guest.exec("sh", "-c", "printf %-16s detached | dd of=/dev/vdb conv=notrunc 2>/dev/null; sync")
        self.file = disks_of(host.virsh("dumpxml", "web"))["vdb"]
        host.virsh("detach-disk", "web", "vdb", "--live", "--config")
        eventually(lambda: "vdb" not in disks_of(host.virsh("dumpxml", "web")), "vdb is detached")

    @classmethod
    def paths(cls, target: str, before: str) -> set[str | None]:
        return {None} if target == "vdb" else {before}

    def intact(self) -> None:
        if not self._given_up():
            assert self.host.sh(_SECTOR.format(path=self.file)).rstrip() == "detached"

    def _given_up(self) -> bool:
        """A revert removes what the operation made, with what was written there since; a disk that nobody uses is a part of that."""
        return not self.host.exists(self.file) and bool(self.guest.hosts) and "vdb" in disks_of(self.guest.xml)

    def undo(self) -> None:
        if not self.host.exists(self.file):
            return
        if self.guest.hosts == [self.host.name]:
            if "vdb" not in disks_of(self.guest.xml):
                where = ["--live", "--config"] if self.guest.state == "running" else ["--config"]
                self.host.virsh("attach-disk", "web", self.file, "vdb", "--subdriver", "qcow2", *where)
        elif self.guest.hosts:
            self.host.run("rm", "-f", self.file)


class AttachedElsewhere(Detached):
    """And another guest gets it, which runs."""

    words = ("db1",)

    def act(self, guest: Guest, host: Host) -> None:
        super().act(guest, host)
        write_files(host, {"/tmp/db1.xml": _DESK.format(name="db1", disk=self.file)})
        host.sh("virsh define /tmp/db1.xml && virsh start db1")

    def intact(self) -> None:
        assert self.host.virsh("domstate", "db1") == "running"
        assert disks_of(self.host.virsh("dumpxml", "db1"))["vda"] == self.file
        assert self.host.sh(_SECTOR.format(path=self.file)).rstrip() == "detached"

    def undo(self) -> None:
        self.host.sh("virsh destroy db1; virsh undefine db1", check=False)
        super().undo()


class Clone(Hand):
    """A linked clone: another guest is defined whose disk lies on the disk of this one. It runs where nothing keeps it from that."""

    words = ("copycat",)
    file = f"{IMAGES}/copycat.qcow2"

    def possible(self) -> bool:
        return len(self.guest.hosts) == 1

    def act(self, guest: Guest, host: Host) -> None:
        self.below = disks_of(host.virsh("dumpxml", "web"))["vda"]
        self.runs = guest.state != "running"
        self._define(host)

    def _define(self, host: Host) -> None:
        host.sh(f"qemu-img create -q -f qcow2 -b {self.below} -F qcow2 {self.file}")
        write_files(host, {"/tmp/copycat.xml": _DESK.format(name="copycat", disk=self.file)})
        host.virsh("define", "/tmp/copycat.xml")
        if self.runs:
            host.virsh("start", "copycat")

    def intact(self) -> None:
        self.host.run("qemu-img", "info", "--backing-chain", "--force-share", self.file)
        if self.runs:
            assert self.host.virsh("domstate", "copycat") == "running"
        elif self.host.name not in self.subject.running_on:
            self.host.sh("virsh start copycat && virsh destroy copycat")

    def undo(self) -> None:
        self.host.sh(f"virsh destroy copycat; virsh undefine copycat && rm -f {self.file}", check=False)


class SealedClone(Clone):
    """Somebody at the source finds the sealed disk, and makes a linked clone of that."""

    def possible(self) -> bool:
        return bool(self._sealed())

    def do(self) -> None:
        self.host = self.lab["kvm1"]
        (self.below,) = self._sealed()
        self.runs = True
        self._define(self.host)

    def _sealed(self) -> list[str]:
        return [path for path in self.lab["kvm1"].files() if path.startswith(f"{self.guest.disk}.sealed-")]


class SwitchedOff(Hand):
    """virsh destroy."""

    leaves = ("shut off", "running")
    words = ("not running", "does not run", "was off", "went off", "is off", "Start", "start")

    def act(self, guest: Guest, host: Host) -> None:
        host.virsh("destroy", "web")

    def undo(self) -> None:
        self._start()


class ShutDown(SwitchedOff):
    """From inside."""

    def act(self, guest: Guest, host: Host) -> None:
        guest.shut_down()


class Crashed(SwitchedOff):
    """Its QEMU dies."""

    def act(self, guest: Guest, host: Host) -> None:
        host.sh("kill -KILL $(ps -eo pid=,args= | awk '/[g]uest=web,/ { print $1 }')")
        eventually(lambda: guest.state != "running", "libvirt notices that QEMU died")


class Paused(Hand):
    """virsh suspend."""

    leaves = ("paused", "running")
    words = ("paused", "resume")

    def act(self, guest: Guest, host: Host) -> None:
        host.virsh("suspend", "web")

    def undo(self) -> None:
        if self.guest.hosts and self.guest.state == "paused":
            self.guest.host.virsh("resume", "web")


class Started(Hand):
    """virsh start, of a guest that is off."""

    needs = "off"
    leaves = ("running",)
    words = ("running", "started", "active", "was off")

    def act(self, guest: Guest, host: Host) -> None:
        host.virsh("start", "web")
        guest.wait()

    def undo(self) -> None:
        if self.guest.hosts and self.guest.state == "running":
            self.guest.host.virsh("destroy", "web")


class SlowShutdown(Hand):
    """From now on the guest takes its time to shut down, until it boots again."""

    extra = {"migrate_shutdown_timeout": 3}
    words = ("shut down", "shutdown")

    def act(self, guest: Guest, host: Host) -> None:
        slow = f'#!/bin/sh\\nsleep {SLOW}\\nexec /run/quick "$@"\\n'
        guest.exec("sh", "-c", f"cp /sbin/shutdown /run/quick && printf '{slow}' >/run/slow && chmod 755 /run/slow && mount --bind /run/slow /sbin/shutdown")

    def undo(self) -> None:
        """Long after the last request, whatever it has come to."""
        time.sleep(SLOW + 3)


class AgentGone(Hand):
    """The agent in the guest is removed; it comes with the next boot."""

    extra = {"migrate_agent_timeout": 30}
    words = ("agent",)

    def act(self, guest: Guest, host: Host) -> None:
        script = "mount --bind /bin/true /usr/sbin/guest-agent && (usleep 300000; killall qemu-ga) >/dev/null 2>&1 &"
        guest.exec("sh", "-c", script)
        ping = ("qemu-agent-command", "web", '{"execute": "guest-ping"}', "--timeout", "1")
        eventually(lambda: host.attempt("virsh", *ping).returncode, "the agent is gone")

    def undo(self) -> None:
        if self.guest.hosts and self.guest.state == "running":
            self.guest.host.virsh("reset", "web")


class ForeignJob(Hand):
    """A blockcopy of the data disk goes on, as a migration of storage has it; it ends with the process of the guest."""

    words = ("block job", "blockjob", "block_job", "blockcopy")
    file = f"{IMAGES}/web-data.copy.qcow2"

    def act(self, guest: Guest, host: Host) -> None:
        self.process = self._process(host)
        host.virsh("blockcopy", "web", "vdb", self.file, "--transient-job", "--format", "qcow2")
        eventually(lambda: re.search(r"cur=(\d+)\s+end=\1\b", self._job(host)), "the copy is ready")

    def _job(self, host: Host) -> str:
        """What virsh tells on its standard output; without --raw it tells that on the other one."""
        return host.virsh("blockjob", "web", "vdb", "--raw")

    def _process(self, host: Host) -> str:
        return host.sh("ps -eo pid=,args= | awk '/[g]uest=web,/ { print $1 }'")

    def intact(self) -> None:
        assert not [host for host in self.guest.hosts if self.file in disks_of(self.lab[host].virsh("dumpxml", "web")).values()], "the guest runs on the copy"
        assert self.host.exists(self.file)
        if self.process and self._process(self.host) == self.process:
            assert "Block Copy" in self._job(self.host), "the job of somebody else was ended"

    def undo(self) -> None:
        self.host.sh(f"virsh blockjob web vdb --abort; rm -f {self.file}", check=False)
        self.process = ""


class Hung(Hand):
    """The libvirtd of a host stands still until the run has ended."""

    needs = "any"
    deaf = True
    words = ("kvm1",)
    extra = {"migrate_hang_timeout": 25}

    def do(self) -> None:
        (where,) = self.words
        self.host = self.lab[where]
        self._signal("STOP")

    def undo(self) -> None:
        self._signal("CONT")

    def _signal(self, name: str) -> None:
        self.host.sh(f"kill -{name} $(ps -eo pid=,comm= | awk '$2 == \"libvirtd\" {{ print $1 }}')")


class HungDestination(Hung):
    """The other one."""

    words = ("kvm2",)


class HungForAWhile(Hung):
    """It goes on while the run is still under way."""

    def do(self) -> None:
        super().do()
        self.timer = threading.Timer(15, super().undo)
        self.timer.start()

    def undo(self) -> None:
        self.timer.join()


# Acts that come to the same are tried in turn.
HANDS: dict[str, tuple[type[Hand], ...]] = {
    "snapshot": (Snapshot, KnownSnapshot),
    "detached": (Detached,),
    "attached elsewhere": (AttachedElsewhere,),
    "clone": (Clone,),
    "sealed clone": (SealedClone,),
    "switched off": (SwitchedOff, ShutDown, Crashed),
    "paused": (Paused,),
    "started": (Started,),
    "slow shutdown": (SlowShutdown,),
    "agent gone": (AgentGone,),
    "foreign job": (ForeignJob,),
    "source hung": (Hung, HungForAWhile),
    "destination hung": (HungDestination,),
}
