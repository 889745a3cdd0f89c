# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Playbooks as jobs of AWX: the project of the example, run by ansible-runner as uid 1000 without root or sudo, in processes and mounts of its own.

What a container engine would add is an image; `support.execution_environment` has that. Here the programs are those of a virtual environment, so that a
test can be run under another ansible-core.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from .fleet import CALLBACKS, Fleet, Playing, Run
from .lab import Lab

EXAMPLE = Path(__file__).parents[3] / "examples/awx"
USER = 1000
PATIENCE = 900.0  # seconds for a job on a busy machine
GRACE = 10.0  # seconds that AWX gives a job to end by itself when it is cancelled
OF_THIS_MACHINE = ("ansible_ssh_private_key_file", "ansible_ssh_common_args", "ansible_control_path_dir")
SSH = "-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null"
NAMESPACES = ("unshare", "--mount", "--propagation=private", "--pid", "--fork", "--ipc", "--uts")
NOBODY_OF_NOTE = ("setpriv", f"--reuid={USER}", "--regid=0", "--clear-groups", "--no-new-privs", "--inh-caps=-all", "--bounding-set=-all")
PASSWD = f"runner:x:{USER}:0::{{home}}:/bin/sh\n"


def programs(core: str) -> Path:
    """The environment with ansible-core and ansible-runner.

    :param core: `default`, that of the tests, or `oldest` or `newest`, of the supported ones (`tests/integration/run` makes them).
    """
    return Path(sys.prefix if core == "default" else os.environ[f"KVMFLEET_{core.upper()}_CORE"])


class _Unsafe(yaml.SafeDumper):
    """As AWX writes extra variables: every text is one that no template is looked for in."""

    def represent_data(self, data: Any) -> yaml.Node:
        return self.represent_scalar("!unsafe", data) if isinstance(data, str) else super().represent_data(data)


class Job(Playing):
    """A job that runs."""

    def __init__(self, process: subprocess.Popen[str], record: Path, output: Path, artifacts: Path) -> None:
        super().__init__(process, record, output)
        self._artifacts = artifacts

    def wait(self, timeout: float = PATIENCE) -> Run:
        """Its result: the output is what AWX shows of it, the statistics are its artifacts."""
        run = super().wait(timeout)
        log = (self._artifacts / "stdout").read_text()
        events = [json.loads(path.read_text()) for path in (self._artifacts / "job_events").glob("*.json")]
        ended = [event["event_data"].get("artifact_data", {}) for event in events if event["event"] == "playbook_on_stats"]
        return dataclasses.replace(run, output=log, stats=ended[0] if ended else {})

    @property
    def status(self) -> str:
        """What ansible-runner calls its end."""
        return (self._artifacts / "status").read_text()

    def cancel(self) -> None:
        """As AWX does it: an interrupt to ansible-runner, and when its patience is over, the end of the container with all that is in it."""
        children = subprocess.run(["ps", "-o", "pid=", "--ppid", str(self.process.pid)], capture_output=True, text=True, check=False).stdout.split()
        for pid in map(int, children):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGINT)
        try:
            self.process.wait(GRACE)
        except subprocess.TimeoutExpired:
            self.kill()


class Jobs(Fleet):
    """A fleet whose playbooks run as jobs."""

    def __init__(self, lab: Lab, directory: Path, environment: Path) -> None:
        """A directory that others can reach, and the environment with the programs."""
        super().__init__(lab, directory)
        self.programs = environment
        self.variables: dict[str, Any] = {"awx_user_name": "admin", "tower_user_name": "admin", "awx_user_id": 1, "tower_user_id": 1}
        self._key = Path(self.vars["ansible_ssh_private_key_file"]).read_text()
        shutil.copytree(os.environ["ANSIBLE_COLLECTIONS_PATH"], directory / "collections")
        shutil.copytree(CALLBACKS, directory / "callbacks")
        for name in ("home", "cp", "jobs"):
            (directory / name).mkdir()
        others = [line for line in Path("/etc/passwd").read_text().splitlines() if line.split(":")[2] != str(USER)]
        (directory / "passwd").write_text(PASSWD.format(home=directory / "home") + "\n".join(others) + "\n")

    def described(self) -> dict[str, Any]:
        """The inventory without what is about this machine."""
        variables = {name: value for name, value in self.vars.items() if name not in OF_THIS_MACHINE}
        return {"compute": {"hosts": self.hosts, "vars": {**variables, "ansible_ssh_common_args": SSH}}}

    def start(self, playbook: str | Path, *options: str, **extra: Any) -> Job:
        """Start a job and return at once.

        :param playbook: of the project, or a file; :param options: of ansible-playbook; :param extra: what AWX adds to `variables`.
        """
        self._runs += 1
        job, number = self.directory / "jobs" / str(self._runs), str(self._runs)
        for name in ("env", "inventory"):
            (job / name).mkdir(parents=True)
        shutil.copytree(EXAMPLE / "project", job / "project")
        if isinstance(playbook, Path):
            shutil.copy(playbook, job / "project")
        name = playbook.name if isinstance(playbook, Path) else f"{playbook}.yml"
        own = {f"{prefix}_job_id": self._runs for prefix in ("awx", "tower")}
        (job / "inventory/hosts.yml").write_text(yaml.safe_dump(self.described()))
        (job / "env/extravars").write_text(yaml.dump({**own, **self.variables, **extra}, Dumper=_Unsafe, sort_keys=False))
        (job / "env/ssh_key").write_text(self._key)
        output, record = self.directory / f"{number}.txt", job / "record.json"
        subprocess.run(["chown", "-R", f"{USER}:0", str(job), *(str(self.directory / each) for each in ("home", "cp", "collections"))], check=True)
        command = ["ansible-runner", "run", str(job), "-p", name, "--ident", number, *([f"--cmdline={shlex.join(options)}"] if options else [])]
        with output.open("w") as stream:
            process = subprocess.Popen(
                self._entering(command, KVMFLEET_RECORD=str(record)),
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
            )
        return Job(process, record, output, job / "artifacts" / number)

    def enter(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command as a job would."""
        return subprocess.run(self._entering(list(command)), capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)

    def _entering(self, command: list[str], **more: str) -> list[str]:
        environment = {
            "HOME": str(self.directory / "home"),
            "PATH": f"{self.programs / 'bin'}:/usr/bin:/bin",
            "LC_ALL": "C.UTF-8",
            "ANSIBLE_COLLECTIONS_PATH": str(self.directory / "collections"),
            "ANSIBLE_SSH_CONTROL_PATH_DIR": str(self.directory / "cp"),
            "ANSIBLE_CALLBACK_PLUGINS": str(self.directory / "callbacks"),
            "ANSIBLE_CALLBACKS_ENABLED": "record",
            **more,
        }
        settings = [f"{name}={value}" for name, value in environment.items()]
        usr = self.programs / "usr"  # of another release of Debian, for its Python
        others = [["mount", "--bind", usr.read_text().strip(), "/usr"]] if usr.is_file() else []
        mounts = [*others, ["mount", "--bind", str(self.directory / "passwd"), "/etc/passwd"], *self._uncovering(), ["mount", "-t", "proc", "proc", "/proc"]]
        script = " && ".join([*map(shlex.join, mounts), 'exec "$@"'])
        return [*NAMESPACES, "sh", "-c", script, "sh", *NOBODY_OF_NOTE, "env", "-i", *settings, *command]

    def _uncovering(self) -> list[list[str]]:
        """Commands that let anybody reach the programs, should they lie in a directory that does not let others through, as the home of root."""
        paths = [path for path in (self.programs, _base_of(self.programs)) if _cover(path)]
        stages = {path: self.directory / f"stage-{number}" for number, path in enumerate(dict.fromkeys(paths))}
        for stage in stages.values():
            stage.mkdir(exist_ok=True)
        return [
            *(["mount", "--bind", str(path), str(stage)] for path, stage in stages.items()),
            *(["mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", cover] for cover in dict.fromkeys(str(_cover(path)) for path in stages)),
            *(["mkdir", "-p", str(path)] for path in stages),
            *(["mount", "--bind", str(stage), str(path)] for path, stage in stages.items()),
        ]


def _cover(path: Path) -> Path | None:
    """The first directory on the way that does not let others through."""
    return next((parent for parent in reversed(path.parents) if not parent.stat().st_mode & 0o001), None)


def _base_of(environment: Path) -> Path:
    """Where the interpreter of a virtual environment is installed."""
    return (environment / "bin/python3").resolve().parents[1]
