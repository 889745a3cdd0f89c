# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The execution environment of the example without a container engine: a root with what the image has, entered as AWX enters it."""

from __future__ import annotations

import hashlib
import json
import platform
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml
from lab import generation
from lab.locking import exclusive
from lab.settings import cache_directory
from lab.shell import run

EXAMPLE = Path(__file__).parents[3] / "examples/awx"
PACKAGES = ("ca-certificates", "openssh-client", "python3")
PROGRAMS = "opt/ee"
USER = 1000
ENTER = """
mount --bind "$1" "$2/runner" && mount -t proc proc "$2/proc" && mount --rbind /dev "$2/dev" && shift &&
exec chroot --userspec={user}:0 --groups= "$@"
"""


def ensure_root() -> Path:
    """The root, made once: Debian's ssh and Python, and Ansible as the description of the image has it."""
    described = yaml.safe_load((EXAMPLE / "execution-environment.yml").read_text())["dependencies"]
    programs = [described[name]["package_pip"] for name in ("ansible_core", "ansible_runner")]
    digest = hashlib.sha256(json.dumps([PACKAGES, programs, sys.version, Path(__file__).read_text()]).encode()).hexdigest()[:16]
    root = cache_directory() / f"root-ee-{digest}"
    with exclusive(cache_directory()):
        if not root.exists():
            # The Python of the machine's own release, so that pip, which is not in the image, fills the root from outside.
            generation.build(platform.freedesktop_os_release()["VERSION_CODENAME"], root, PACKAGES, lambda unfinished: _fill(unfinished, programs))
    return root


def _fill(root: Path, programs: list[str]) -> None:
    run([sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--target", str(root / PROGRAMS), *programs])
    for script in (root / PROGRAMS / "bin").iterdir():
        text = script.read_text()
        script.write_text("#!/usr/bin/python3\n" + text.split("\n", 1)[1])
    for directory in ("runner", "home/runner"):
        (root / directory).mkdir(parents=True)
    shutil.chown(root / "home/runner", USER, 0)
    with (root / "etc/passwd").open("a") as users:
        users.write(f"runner:x:{USER}:0::/home/runner:/bin/sh\n")


class ExecutionEnvironment:
    """A root, and the directory that AWX hands to a job in it."""

    def __init__(self, directory: Path, collection: Path) -> None:
        self.root = ensure_root()
        self.directory = directory
        shutil.copytree(EXAMPLE / "project", directory / "project")
        shutil.copytree(collection, directory / "collections")
        for name in ("env", "inventory", "artifacts", "cp"):
            (directory / name).mkdir()

    def run(self, playbook: str, inventory: dict[str, Any], key: Path, **extra: Any) -> tuple[int, dict[str, Any], str]:
        """Run a playbook of the project: its status, its artifacts, what it said."""
        ident = f"{playbook}-{len(list((self.directory / 'artifacts').iterdir()))}"
        (self.directory / "inventory/hosts.yml").write_text(yaml.safe_dump(inventory))
        (self.directory / "env/extravars").write_text(json.dumps(extra))
        (self.directory / "env/ssh_key").write_text(key.read_text())
        subprocess.run(["chown", "-R", f"{USER}:0", str(self.directory)], check=True)
        done = self.enter("ansible-runner", "run", "/runner", "-p", f"{playbook}.yml", "--ident", ident)
        events = (self.directory / "artifacts" / ident / "job_events").glob("*.json")
        ends = [event for path in events if (event := json.loads(path.read_text()))["event"] == "playbook_on_stats"]
        return done.returncode, ends[0]["event_data"].get("artifact_data", {}) if ends else {}, done.stdout + done.stderr

    def enter(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command in the root, without any of the machine's users, processes or mounts."""
        environment = {
            "HOME": "/home/runner",
            "PATH": f"/{PROGRAMS}/bin:/usr/bin:/bin",
            "PYTHONPATH": f"/{PROGRAMS}",
            "LC_ALL": "C.UTF-8",
            "ANSIBLE_COLLECTIONS_PATH": "/runner/collections",
            "ANSIBLE_SSH_CONTROL_PATH_DIR": "/runner/cp",
        }
        settings = [f"{name}={value}" for name, value in environment.items()]
        namespaces = ["unshare", "--mount", "--propagation=private", "--pid", "--fork", "--kill-child", "--ipc", "--uts"]
        script = ["sh", "-c", ENTER.format(user=USER), "sh", str(self.directory), str(self.root), "env", "-i", *settings, *command]
        return subprocess.run([*namespaces, *script], capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
