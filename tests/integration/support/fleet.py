# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The collection's playbooks, run as a person would run them, on an inventory that a test may change."""

from __future__ import annotations

import copy
import json
import os
import re
import signal
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from .lab import Lab

CALLBACKS = Path(__file__).parents[1] / "callback_plugins"
TIMEOUT = 300.0


@dataclass(frozen=True)
class Run:
    """A playbook that has ended."""

    rc: int
    output: str
    recap: dict[str, dict[str, int]] = field(default_factory=dict)
    stats: dict[str, Any] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    messages: list[Any] = field(default_factory=list)
    diffs: list[dict[str, Any]] = field(default_factory=list)

    @property
    def changed(self) -> int:
        """How many tasks changed something, on all hosts."""
        return sum(numbers["changed"] for numbers in self.recap.values())

    @property
    def error(self) -> str:
        """The message that the playbook failed with, all of its lines."""
        return self.stats.get("kvmfleet_error", {}).get("message") or (self.failures[-1] if self.failures else "")

    @property
    def said(self) -> str:
        """All that its debug tasks said."""
        return "\n".join("\n".join(map(str, message)) if isinstance(message, list) else str(message) for message in self.messages)

    @property
    def verdicts(self) -> dict[str, str]:
        """What the placement table (or the refusal) says of each host."""
        lines = f"{self.said}\n{self.error}".splitlines()
        found = [re.match(r" *(kvm\d+)(?::|  +\w+) +(.+)", line) for line in lines]
        return {match[1]: match[2] for match in found if match}

    @property
    def migration(self) -> dict[str, Any]:
        """The set_stats data `kvmfleet_migration`."""
        return self.stats["kvmfleet_migration"]

    def ok(self) -> Run:
        """This run, which must have succeeded."""
        assert self.rc == 0, self.output
        return self

    def refused(self) -> str:
        """The error of this run, which must have failed."""
        assert self.failures, self.output
        return self.error


class Playing:
    """A playbook that runs."""

    def __init__(self, process: subprocess.Popen[str], record: Path, output: Path) -> None:
        self.process = process
        self._record = record
        self._output = output

    @property
    def output(self) -> str:
        """What it has printed so far."""
        return self._output.read_text()

    def kill(self) -> None:
        """Kill it and all its local children at once, as a dying controller would."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def wait(self, timeout: float = TIMEOUT) -> Run:
        """Its result, when it has ended."""
        try:
            rc = self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"the playbook did not end within {timeout:g} s:\n{self.output}") from None
        assert "[DEPRECATION WARNING]" not in self.output, self.output
        record = json.loads(self._record.read_text()) if self._record.exists() else {}
        return Run(rc, self.output, **record)


class Fleet:
    """The lab's inventory, to be changed at will, and playbooks run on it."""

    def __init__(self, lab: Lab, directory: Path) -> None:
        self.lab = lab
        self.directory = directory
        group = copy.deepcopy(lab.inventory["compute"])
        self.hosts: dict[str, dict[str, Any]] = group["hosts"]
        self.vars: dict[str, Any] = group["vars"]
        self._runs = 0
        self._playing: list[Playing] = []
        self._configuration = directory / "ansible.cfg"
        self._configuration.touch()

    @property
    def flavors(self) -> dict[str, dict[str, int]]:
        return self.vars["kvmfleet_flavors"]

    def free_memory(self, host: str, mib: int, ratio: float = 1.5, used: int = 0) -> None:
        """Reserve so much that a host has exactly `mib` left, given the ratio and what its guests use."""
        self.hosts[host]["kvmfleet_reserved_host_memory_mb"] = int(self.lab[host].memory_mb * ratio) - mib - used

    def inventory(self) -> Path:
        """A file with the inventory as it is now."""
        path = self.directory / "inventory.yml"
        path.write_text(yaml.safe_dump({"compute": {"hosts": self.hosts, "vars": self.vars}}))
        return path

    def environment(self, **more: str) -> dict[str, str]:
        """What Ansible's programs get: nothing of the caller's configuration but where the collection is installed."""
        kept = {key: value for key, value in os.environ.items() if not key.startswith("ANSIBLE_") or key == "ANSIBLE_COLLECTIONS_PATH"}
        settings = {"ANSIBLE_CONFIG": str(self._configuration), "ANSIBLE_NOCOLOR": "1", "ANSIBLE_LOCALHOST_WARNING": "0", "ANSIBLE_RETRY_FILES_ENABLED": "0"}
        recorder = {"ANSIBLE_CALLBACK_PLUGINS": str(CALLBACKS), "ANSIBLE_CALLBACKS_ENABLED": "record"}
        return {**kept, **settings, **recorder, **more}

    def start(self, playbook: str | Path, *options: str, **extra: Any) -> Playing:
        """Start a playbook and return at once.

        :param playbook: name in the collection, or a file; :param options: options of ansible-playbook; :param extra: extra vars.
        """
        self._runs += 1
        record, output = (self.directory / f"{self._runs}.{kind}" for kind in ("json", "txt"))
        name = str(playbook) if isinstance(playbook, Path) else f"kvmfleet.compute.{playbook}"
        command = ["ansible-playbook", "-i", str(self.inventory()), name, "-e", json.dumps(extra), *options]
        with output.open("w") as stream:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                text=True,
                cwd=self.directory,
                env=self.environment(KVMFLEET_RECORD=str(record)),
                start_new_session=True,
            )
        self._playing.append(Playing(process, record, output))
        return self._playing[-1]

    def kill_all(self) -> None:
        """Kill what a test that failed has left playing, which would act on the hosts of the next one."""
        for playing in self._playing:
            if playing.process.poll() is None:
                playing.kill()

    def play(self, playbook: str | Path, *options: str, **extra: Any) -> Run:
        """Run a playbook to its end, as `start`."""
        return self.start(playbook, *options, **extra).wait()

    def resize(self, instance: str, flavor: str, *options: str, **extra: Any) -> Run:
        """Resize to another host: the default of Nova, and what most tests are about."""
        return self.play("resize", *options, **{"resize_allow_resize_to_same_host": False, **extra, "instance": instance, "flavor": flavor})
