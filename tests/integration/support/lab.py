# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab's hosts, as seen by a test: commands on them, files of them, what an operation leaves behind on them."""

from __future__ import annotations

import json
import os
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import yaml
from lab import fleet
from lab.cli import FAULT
from lab.errors import LabError, LabFault

SCRIPT = Path(__file__).parents[3] / "script" / "lab"
STATE = "/var/lib/kvmfleet"
IMAGES = "/var/lib/libvirt/images"

_LEFTOVERS = f"""
cd {STATE} 2>/dev/null && find claims exports -mindepth 1 ! -name '.*' 2>/dev/null
grep -sLE '"status": "(confirmed|reverted|error)"' {STATE}/migrations/*.json
find {IMAGES} /var/lib/libvirt/qemu/nvram -name '*.part*' ! -path '*/_base/*' -o -name '*.sealed-*' -o -name '*.resize-*' 2>/dev/null
find {IMAGES} -maxdepth 1 -type f ! -name '*.kept'
find {IMAGES} -maxdepth 1 -name '*.kept' | while read file; do grep -sqF "$file" {STATE}/kept/*.json || echo "$file"; done
grep -sL '"state": "in_service"' {STATE}/host/maintenance.json
find /var/lib/libvirt/swtpm -mindepth 1 -maxdepth 1 2>/dev/null
ps -eo comm= | grep -xE 'nbdkit|nbdcopy|qemu-storage-da'
{{ virsh --quiet list --all --name || echo 'list unknown'; }} | sed '/^$/d; s/^/domain /'
"""

_RESET = f"""
for domain in $(virsh --quiet list --all --uuid); do
  virsh --quiet destroy "$domain" 2>/dev/null
  virsh --quiet undefine "$domain" --nvram --managed-save --snapshots-metadata --checkpoints-metadata
done
kill -KILL $(ps -eo pid=,comm= | awk '$2 ~ /^(nbdkit|nbdcopy|qemu-storage-da|qemu-system.*)$/ {{ print $1 }}') 2>/dev/null
find {IMAGES} -maxdepth 1 -type f -delete
rm -rf {IMAGES}/_base {STATE} /var/lib/libvirt/swtpm
"""


# What a copy that broke may leave for the next one, in the open.
_FORGET_KEPT = f"rm -rf {IMAGES}/*.kept {STATE}/kept {IMAGES}/_base/*.part"

_SNAPSHOT = f"""
find {IMAGES} {STATE}/migrations {STATE}/claims {STATE}/exports /etc/libvirt/qemu /var/lib/libvirt/qemu/nvram -type f -printf '%p %s %T@\\n' 2>/dev/null | sort
virsh --quiet list --all
"""


class Host:
    """One compute host."""

    def __init__(self, lab: Lab, name: str) -> None:
        self.lab = lab
        self.name = name

    def run(self, *argv: str, check: bool = True) -> str:
        """Run a command as root on the host; its output."""
        result = self.attempt(*argv)
        if check and result.returncode:
            raise AssertionError(f"{self.name}: {' '.join(argv)}: exit status {result.returncode}\n{result.stdout}{result.stderr}")
        return result.stdout.rstrip("\n")

    def attempt(self, *argv: str, timeout: float = 180) -> subprocess.CompletedProcess[str]:
        """Run a command as root on the host, which may fail: what `script/lab exec` does, without a Python of its own for each."""
        try:
            command = fleet.host_named(fleet.existing_lab(), self.name).entering(argv)
        except LabError as error:
            return subprocess.CompletedProcess(argv, 1, "", f"{error}\n")
        # A disk that a tool looks into may have any bytes, and the locale of the machine may be any.
        decoding = {"encoding": "utf-8", "errors": "backslashreplace"}
        return subprocess.run(command, capture_output=True, **decoding, stdin=subprocess.DEVNULL, timeout=timeout, check=False)

    def sh(self, script: str, check: bool = True) -> str:
        return self.run("sh", "-c", script, check=check)

    def virsh(self, *arguments: str, check: bool = True) -> str:
        return self.run("virsh", "--quiet", *arguments, check=check)

    @property
    def domains(self) -> list[str]:
        """Names of all domains, running or not."""
        return sorted(self.virsh("list", "--all", "--name").split())

    @property
    def memory_mb(self) -> int:
        """What libvirt calls the memory of the host."""
        return int(self.virsh("nodememstats").split("total")[1].split()[1]) // 1024

    @property
    def sent_bytes(self) -> int:
        """Everything that the host ever sent over its cable, headers included."""
        return int(Path(f"/sys/class/net/{self.lab.prefix}-{self.name}/statistics/rx_bytes").read_text())

    def allocated_bytes(self, path: str) -> int:
        """What a file takes on disk."""
        return int(self.run("stat", "--format=%b", path)) * 512

    def sha256(self, path: str) -> str:
        return self.run("sha256sum", path).split()[0]

    def exists(self, path: str) -> bool:
        return self.attempt("test", "-e", path).returncode == 0

    def files(self, directory: str = IMAGES) -> list[str]:
        """Paths of the files in a directory."""
        return self.sh(f"[ ! -d {directory} ] || find {directory} -maxdepth 1 -type f").split()

    def records(self, kind: str = "migrations") -> list[dict[str, Any]]:
        """The journal's records (or the claims) of the host, oldest first."""
        text = self.sh(f"for file in {STATE}/{kind}/*.json; do [ -e $file ] && tr -d '\\n' <$file && echo; done", check=False)
        return sorted((json.loads(line) for line in text.splitlines()), key=lambda record: record["created_at"])

    def leftovers(self) -> list[str]:
        """What there should not be on a host without guests or open operations."""
        return self.sh(_LEFTOVERS).splitlines()

    def forget_kept(self) -> None:
        """Remove what copies that broke have left for the next ones."""
        self.sh(_FORGET_KEPT, check=False)

    def snapshot(self) -> str:
        """Every image, definition, record, claim and domain, such that a change of any shows."""
        return self.sh(_SNAPSHOT)

    def reset(self) -> None:
        """Remove all guests and all that the collection ever wrote."""
        self.sh(_RESET, check=False)


class Lab:
    """The fleet of `script/lab`."""

    def __init__(self) -> None:
        self.directory = Path(os.environ["KVMFLEET_LAB_DIR"])
        self.prefix: str = json.loads((self.directory / "state.json").read_text())["prefix"]
        self.inventory: dict[str, Any] = yaml.safe_load(self.call("inventory").stdout)
        self.hosts = {name: Host(self, name) for name in self.inventory["compute"]["hosts"]}

    def __getitem__(self, name: str) -> Host:
        return self.hosts[name]

    def call(self, *arguments: str, check: bool = True, timeout: float = 180) -> subprocess.CompletedProcess[str]:
        """Run `script/lab`."""
        result = subprocess.run([SCRIPT, *arguments], capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=timeout, check=False)
        if result.returncode and result.stderr.startswith(FAULT):
            raise LabFault(result.stderr.removeprefix(FAULT))
        if check and result.returncode:
            raise AssertionError(f"script/lab {' '.join(arguments)}: exit status {result.returncode}\n{result.stdout}{result.stderr}")
        return result

    def leftovers(self) -> list[str]:
        """Leftovers of all hosts, each with its host."""
        found = self._on_all(Host.leftovers)
        return [f"{name}: {line}" for name, lines in found.items() for line in lines]

    def snapshot(self) -> dict[str, str]:
        """The snapshots of all hosts."""
        return self._on_all(Host.snapshot)

    def forget_kept(self) -> None:
        self._on_all(Host.forget_kept)

    def reset(self) -> None:
        self._on_all(Host.reset)

    def _on_all(self, function: Any) -> dict[str, Any]:
        with ThreadPoolExecutor(len(self.hosts)) as pool:
            return dict(zip(self.hosts, pool.map(function, self.hosts.values())))
