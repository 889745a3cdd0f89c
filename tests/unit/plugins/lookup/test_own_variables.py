# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Connection variables that are templates, in whole runs of ansible-playbook."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from ansible_collections.kvmfleet.compute.plugins.plugin_utils import own_variables

CONNECTIONS = Path(__file__).resolve().parents[4] / "tests/compat/connections"


def play(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    cache = {"ANSIBLE_CACHE_PLUGIN": "jsonfile", "ANSIBLE_CACHE_PLUGIN_CONNECTION": str(directory / "cache"), "ANSIBLE_LOG_PATH": str(directory / "log")}
    collections = str(Path(own_variables.__file__).parents[5])
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(directory), "ANSIBLE_NOCOLOR": "1", "ANSIBLE_COLLECTIONS_PATH": collections}
    command = [str(Path(sys.executable).parent / "ansible-playbook"), "-i", str(CONNECTIONS / "inventory.yml"), *arguments]
    return subprocess.run(command, cwd=directory, env={**environment, **cache}, capture_output=True, text=True, check=False)


def test_a_delegated_task_reaches_each_host_as_a_play_on_it_does_and_no_password_is_seen(tmp_path: Path) -> None:
    """What the stage compat tries under other versions: not on the screen, in the log, in the cache of facts or anywhere that Ansible writes."""
    done = play(tmp_path, str(CONNECTIONS / "play.yml"), "-vvv")
    assert done.returncode == 0, done.stdout
    assert "Let connection variables mean for delegated tasks what they mean on their own host" in done.stdout
    written = [Path(directory) / name for directory, _directories, names in os.walk(tmp_path) for name in names]
    assert any(path.parent.name == "cache" for path in written)
    assert [path for path in written if b"hush" in path.read_bytes()] == []
    assert "hush" not in done.stdout + done.stderr


def test_what_an_extra_variable_makes_of_it_is_refused(tmp_path: Path) -> None:
    """Nothing goes before it. A value is as good as ever."""
    done = play(tmp_path, "kvmfleet.compute.status", "-e", "ansible_user={{ inventory_hostname }}", "-e", "ansible_port=2022")
    assert done.returncode == 2
    assert "ansible_user: expected a value, got a template as an extra variable" in done.stdout
    assert "ansible_port: expected" not in done.stdout
