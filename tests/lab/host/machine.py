# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The life of a host: start, commands inside, death."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from .. import network
from ..errors import LabError
from ..processes import HOST_MARK, LAB_MARK, host_init, kill_host, marked_environment
from ..settings import HostDescription, Lab, cache_directory
from ..shell import SYSTEM_PATH, run
from . import init
from .files import ensure_files
from .services import SERVICES, start_script, stop_script

PACKAGE_PARENT = Path(__file__).parents[2]
NAMESPACES = ("--mount", "--uts", "--ipc", "--net", "--pid")
START_TIMEOUT = 60.0


class Host:
    """A host of a lab, alive or not."""

    def __init__(self, lab: Lab, description: HostDescription) -> None:
        self.lab = lab
        self.description = description
        self.name = description.name
        self.address = lab.address(description)

    @property
    def files(self) -> Path:
        """The host's private tree, as the machine sees it."""
        return self.lab.host_directory(self.name)

    @property
    def pid(self) -> int | None:
        """Process id of the host's first process, if the host is alive."""
        return host_init(self.lab.id, self.name)

    def start(self) -> None:
        """Start the host or repair what is missing of it."""
        if not self.lab.root(self.name).is_dir():
            raise LabError(f"the root of {self.name} is gone from {self.lab.root(self.name)}: run `script/lab host renew {self.name}`")
        ensure_files(self.lab, self.description)
        pid = self.pid or self._launch()
        _wait(lambda: Path(f"/proc/{pid}/root{init.READY}").exists() or self.pid is None, f"{self.name} does not start, see {self._log}")
        network.connect_host(self.lab, self.description, self._living_pid())
        for name in SERVICES:
            self.start_service(name)
        _wait(lambda: self.virsh("version", "--daemon", check=False).returncode == 0, f"libvirtd of {self.name} does not answer")

    def kill(self) -> None:
        """Let the whole host die at once; its disks remain."""
        kill_host(self.lab.id, self.name)

    def start_service(self, name: str) -> None:
        """Start a service unless it runs."""
        self.run(["sh", "-c", start_script(name)])

    def stop_service(self, name: str) -> None:
        """Stop a service if it runs."""
        self.run(["sh", "-c", stop_script(name)])

    def entering(self, argv: Sequence[str]) -> list[str]:
        """Return the command line that runs `argv` as root inside the host."""
        pid = self.pid
        if pid is None:
            raise LabError(f"{self.name} is down")
        enter = ["nsenter", f"--target={pid}", *NAMESPACES, "--wd=/"]
        env = ["env", "-i", f"PATH={SYSTEM_PATH}", "HOME=/root", "LANG=C.UTF-8", f"{LAB_MARK}={self.lab.id}", f"{HOST_MARK}={self.name}"]
        return [*enter, *env, *argv]

    def run(self, argv: Sequence[str], *, stdin: str | None = None, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command as root inside the host."""
        return run(self.entering(argv), stdin=stdin, check=check, shown=(f"{self.name}:", *argv))

    def virsh(self, *arguments: str, stdin: str | None = None, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Call virsh inside the host."""
        return self.run(["virsh", "--quiet", "--connect", "qemu:///system", *arguments], stdin=stdin, check=check)

    @property
    def _log(self) -> Path:
        return self.lab.directory / "hosts" / f"{self.name}.log"

    def _launch(self) -> int:
        command = ["unshare", *NAMESPACES, "--fork", "--kill-child", "--propagation=private", sys.executable, "-B", "-m", __package__]
        places = ["--root", str(self.lab.root(self.name)), "--tree", str(self.files)]
        options = ["--name", self.name, *places, "--hide", str(self.lab.directory), "--hide", str(cache_directory())]
        with self._log.open("w") as log:
            launched = subprocess.Popen(
                [*command, *options, *(["--kvm"] if self.lab.kvm else [])],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=PACKAGE_PARENT,
                env=marked_environment(self.lab.id, self.name),
                start_new_session=True,
            )
        _wait(lambda: self.pid or launched.poll() is not None, f"{self.name} does not start, see {self._log}")
        return self._living_pid()

    def _living_pid(self) -> int:
        pid = self.pid
        if pid is None:
            raise LabError(f"{self.name} does not start: {self._last_words()}")
        return pid

    def _last_words(self) -> str:
        return (self._log.read_text().strip().splitlines() or [""])[-1]


def _wait(condition: Callable[[], object], complaint: str, timeout: float = START_TIMEOUT) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            raise LabError(complaint)
        time.sleep(0.05)
