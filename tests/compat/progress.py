# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A copy that tells its progress, as a job of ansible-runner, AWX's executor, under the ansible-core that is installed: the job ends, its lines are events.

ansible-runner replaces what writes to the terminal. Anything in a worker of Ansible but its main thread that comes there holds up the whole job for ever.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Any

UUID = "00000000-0000-4000-8000-000000000000"
COLLECTIONS = Path(__file__).absolute().parents[5]
ENDS_WITHIN = 90.0  # seconds
WORKED_ON_FOR = 6.0  # seconds for which another process works on the operation
COPYING = {
    "destination_copy": {"state": "started"},
    "base_image": {"path": "/nowhere", "url": "file:///nowhere", "sha256": "0" * 64, "format": "qcow2", "virtual_size": 1, "size_bytes": 1},
}


def play(state: Path, module: str, arguments: dict[str, Any]) -> list[dict[str, Any]]:
    """A copy into an operation on which another process works, so that it takes its time and then fails."""
    common = {"migration_uuid": UUID, "owner": "compat", "state_path": str(state), "progress_interval": 1}
    task = {"name": "Copy", f"kvmfleet.compute.{module}": {**common, **arguments}, "ignore_errors": True}
    variables = {"ansible_python_interpreter": sys.executable}
    return [{"name": "Copy", "hosts": "localhost", "connection": "local", "gather_facts": False, "vars": variables, "tasks": [task]}]


def prepare(directory: Path) -> Path:
    """A state directory with an operation and how far its copy is."""
    state = directory / "state"
    record = {"uuid": UUID, "status": "migrating", "step": "receiving", "owner": "compat"}
    progress = {"percent": 3.0, "bytes_done": 3 * 2**20, "bytes_total": 100 * 2**20, "rate": 2**20, "eta": 97.0, "resumed": 0}
    for kind, name, document in (("migrations", f"{UUID}.json", record), (f"exports/{UUID}.peer", "progress.json", progress)):
        (state / kind).mkdir(parents=True, mode=0o700)
        (state / kind / name).write_text(json.dumps({"schema_version": 1, **document}))
    (state / "locks").mkdir()
    return state


def events(directory: Path, playbook: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What the job says, each event a mapping. It must end."""
    for name in ("project", "inventory"):
        (directory / name).mkdir(parents=True)
    (directory / "inventory" / "hosts").write_text("localhost\n")
    (directory / "project" / "copy.yml").write_text(json.dumps(playbook))
    command = [sys.executable, "-m", "ansible_runner", "run", str(directory), "-p", "copy.yml", "--json", "-vvv"]
    environment = {**os.environ, "ANSIBLE_COLLECTIONS_PATH": str(COLLECTIONS), "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    try:
        job = subprocess.run(command, capture_output=True, text=True, timeout=ENDS_WITHIN, env=environment, check=False)
    except subprocess.TimeoutExpired:
        subprocess.run(["pkill", "-KILL", "-f", str(directory)], check=False)
        sys.exit(f"The job did not end within {ENDS_WITHIN:g} s.")
    print(job.stderr, file=sys.stderr, end="")
    return [json.loads(line) for line in job.stdout.splitlines() if line.startswith("{")]


def copies(module: str) -> str:
    """Run a module that copies, and describe what was seen; exits where that is wrong."""
    with tempfile.TemporaryDirectory() as name:
        state = prepare(Path(name))
        with open(state / "locks" / f"migration-{UUID}.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            threading.Timer(WORKED_ON_FOR, fcntl.flock, (lock, fcntl.LOCK_UN)).start()
            found = events(Path(name) / "job", play(state, module, COPYING[module]))
    lines = [event for event in found if re.search(r"\d+ % of \d+ MiB", event["stdout"])]
    ended = [event for event in found if event["event"] == "playbook_on_stats"]
    if len(lines) < 3 or {event["event"] for event in lines} != {"verbose"} or not ended:
        said = "\n".join(event["stdout"] for event in found)
        sys.exit(f"{module}: {len(lines)} lines of progress, the job {'ended' if ended else 'did not end'}:\n{said}")
    return f"{module}: {len(lines)} lines of progress with ansible-core {version('ansible-core')} and ansible-runner {version('ansible-runner')}"


if __name__ == "__main__":
    with ThreadPoolExecutor(len(COPYING)) as pool:
        print("\n".join(pool.map(copies, COPYING)))
