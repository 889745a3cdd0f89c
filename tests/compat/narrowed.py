# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every playbook, narrowed in every way, under the ansible-core that is installed: it fails before it does anything, says so, and leaves an artifact.

Ansible is loaded once and each run is a fork of it, since loading it would take longer than the runs.
"""

from __future__ import annotations

import json
import os
import re
import sys
import tempfile
import traceback
from pathlib import Path

COLLECTIONS = Path(__file__).absolute().parents[5]
# But for the beginning of the others, which does nothing.
PLAYBOOKS = sorted(path.stem for path in (Path(__file__).absolute().parents[2] / "playbooks").glob("*.yml") if path.stem != "begin")
WITHOUT_FLEET = {"awx_setup"}  # no slice of the fleet matters to it
# No interpreter, so that a task that reached a host would fail quickly.
HOSTS = dict.fromkeys(("kvm1", "kvm2"), {"ansible_connection": "local", "ansible_python_interpreter": "/nowhere/python"})
FLEET = {"compute": {"hosts": HOSTS, "vars": {"kvmfleet_become": False}}, "others": {"hosts": {"web": {"ansible_connection": "local"}}}}
HALF = {**FLEET, "compute": {"hosts": {"kvm1": HOSTS["kvm1"]}, "vars": {"kvmfleet_become": False, "kvmfleet_hosts_expected": 2}}}
NARROWED = "narrowed_run"
LEFT_OUT = "left out by"
NO_HOSTS = "not match any hosts|no hosts to target"
# What narrows a run, the inventory, and by what a run ends: the artifact where a task can run at all, else a message.
WAYS = {
    "limit to a host": (["--limit", "kvm1"], FLEET, NARROWED),
    "limit to all hosts of the inventory": (["--limit", "all"], FLEET, NARROWED),
    "limit to a host that is not of the fleet": (["--limit", "web"], FLEET, NARROWED),
    "limit to localhost": (["--limit", "localhost"], FLEET, f"{NARROWED}|{NO_HOSTS}"),
    "limit to nothing": (["--limit", "nobody"], FLEET, NO_HOSTS),
    "tags": (["--tags", "resize"], FLEET, NARROWED),
    "skipped tags": (["--skip-tags", "untagged"], FLEET, NARROWED),
    "skipped tags with the first task": (["--skip-tags", "always"], FLEET, LEFT_OUT),
    "start at a task": (["--start-at-task", "Gather the state of the host"], FLEET, LEFT_OUT),
    "slice": ([], HALF, NARROWED),
}
WHOLE = {"a limit to all": ["--limit", "compute:localhost"], "tags of nothing": ["--skip-tags", "nothing"]}
# Every task but those that look and those that end.
DONE = re.compile(r"^TASK \[(?!(?:kvmfleet\.compute\.\w+ : )?(?:Failed|Refuse|Look whether this run|End with an error))(.*?)\]", re.MULTILINE)


def play(directory: Path, playbook: str, options: list[str], inventory: dict[str, object]) -> tuple[int, str]:
    """Its return code and what it printed."""
    hosts, output = directory / "inventory.json", directory / "output"
    hosts.write_text(json.dumps(inventory))
    child = os.fork()
    if child == 0:
        try:
            with output.open("wb") as stream:
                os.dup2(stream.fileno(), 1)
                os.dup2(stream.fileno(), 2)
            status = PlaybookCLI(["ansible-playbook", "-i", str(hosts), f"kvmfleet.compute.{playbook}", *options]).run()
        except AnsibleError as error:
            print(f"ERROR! {error}", flush=True)
            status = 1
        except BaseException:
            traceback.print_exc()
            status = 250
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status or 0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), re.sub(r"\s+(?=\S)", lambda gap: "\n" if "\n" in gap[0] else " ", output.read_text())


def wrong(playbook: str, options: list[str], inventory: dict[str, object], expected: str, directory: Path) -> str | None:
    """What is wrong with how a narrowed run ended."""
    status, said = play(directory, playbook, options, inventory)
    if status in (0, 250):
        return f"ended with {status}:\n{said}"
    if not re.search(expected, said.replace("\n", " ")):
        return f"does not say {expected!r}:\n{said}"
    if done := DONE.findall(said):
        return f"did {done}:\n{said}"
    if expected == NARROWED and not re.search(r'"kvmfleet_error": \{\s*"code": "narrowed_run"', said):
        return f"left no artifact:\n{said}"
    return None


def main() -> int:
    """How many runs did not end as they must."""
    faults, tried = [], 0
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        for playbook in PLAYBOOKS:
            for way, (options, inventory, expected) in WAYS.items():
                if inventory is HALF and playbook in WITHOUT_FLEET:
                    continue
                tried += 1
                if fault := wrong(playbook, options, inventory, expected, directory):
                    faults.append(f"{playbook}, {way}: {fault}")
        for way, options in WHOLE.items():
            tried += 1
            _status, said = play(directory, "status", options, FLEET)
            if "Show the capacity of the fleet" not in said:
                faults.append(f"status, {way}: was not let run:\n{said}")
    print("\n".join(faults))
    print(f"{tried} runs, {len(faults)} ended otherwise than they must, with ansible-core {ansible_version}")
    return len(faults)


if __name__ == "__main__":
    # Ansible reads these when it is loaded.
    os.environ.update(ANSIBLE_COLLECTIONS_PATH=str(COLLECTIONS), ANSIBLE_SHOW_CUSTOM_STATS="1", ANSIBLE_NOCOLOR="1", ANSIBLE_LOCALHOST_WARNING="0")
    from ansible.cli.playbook import PlaybookCLI
    from ansible.errors import AnsibleError
    from ansible.release import __version__ as ansible_version

    sys.exit(bool(main()))
