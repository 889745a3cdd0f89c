# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The two hosts of the lab between which everything moves, made ready for scripts that copy from the first to the second."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from pathlib import Path

from lab import ssh
from lab.fleet import existing_lab, host_named
from lab.host import Host
from lab.host.files import OPERATOR

from bench.move.scripts import INCOMING

STATE = "/var/lib/kvmfleet"
TIMEOUT = 1800.0


class Pair:
    """Source and destination."""

    def __init__(self) -> None:
        self.lab = existing_lab()
        self.source, self.destination = (host_named(self.lab, name) for name in self.lab.host_names[:2])
        self._let_in()
        for host in (self.source, self.destination):
            host.virsh("domcapabilities")  # libvirt asks QEMU for them once, which the first start would pay for

    @property
    def cable(self) -> Path:
        """The counters of the source's cable."""
        return Path(f"/sys/class/net/{self.lab.prefix}-{self.source.name}/statistics")

    @property
    def namespaces(self) -> list[str]:
        """What the processes of the hosts have in common."""
        return [str((Path(f"/proc/{host.pid}/ns/pid")).readlink()) for host in (self.source, self.destination)]

    def on_machine(self, host: Host, path: str) -> Path:
        """A file of a host, as the machine sees it."""
        return host.files / path.lstrip("/")

    def run(self, script: str) -> str:
        """Run a script as root of the source, the way an admin does, over ssh; its output.

        It is one argument and has no standard input, which an ssh inside it would read.
        """
        command = ssh.command(self.lab, self.source.description, f"sudo -n -H bash -c {shlex.quote(script)}")
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=TIMEOUT)
        if done.returncode:
            raise RuntimeError(f"exit status {done.returncode}\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
        return done.stdout

    def _let_in(self) -> None:
        """Root of the source may log in at the destination, where it may copy into a directory."""
        home = self.on_machine(self.source, "/root/.ssh")
        home.mkdir(mode=0o700, exist_ok=True)
        for name in ("id_ed25519", "known_hosts"):
            shutil.copy(self.lab.ssh_directory / name, home / name)
        key = (home / "known_hosts").read_text(encoding="utf-8")
        (home / "known_hosts").write_text(key.replace(f"{self.destination.address} ", f"{self.destination.name},{self.destination.address} "), encoding="utf-8")
        (home / "config").write_text(f"Host *\n  User {OPERATOR}\n  BatchMode yes\n", encoding="utf-8")
        (home / "id_ed25519").chmod(0o600)
        self.destination.run(["install", "-d", "-o", OPERATOR, INCOMING])
