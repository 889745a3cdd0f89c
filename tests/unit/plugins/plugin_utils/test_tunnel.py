# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Tunnels with an ssh that only says what ssh would."""

from __future__ import annotations

import os
import subprocess
import time

import pytest

from ansible_collections.kvmfleet.compute.plugins.plugin_utils import tunnel

SSH = """#!/bin/sh
echo $$ >>"$(dirname "$0")/pids"
for word; do
  case $word in
    refuse) echo "Warning: something" >&2; echo "administratively prohibited" >&2; exit 255 ;;
    *:127.0.0.1:27700) touch "${word%%:*}" ;;
    127.0.0.1:0:*) echo "Allocated port 40123 for remote forward to ${word#127.0.0.1:0:}:-2" >&2 ;;
  esac
done
exec sleep 60
"""


@pytest.fixture
def ssh(tmp_path):
    path = tmp_path / "ssh"
    path.write_text(SSH)
    path.chmod(0o755)
    return [str(path), "-o", "User=operator"]


@pytest.fixture
def run():
    process = subprocess.Popen(["sleep", "60"])
    yield process
    process.kill()
    process.wait()


def alive(tmp_path):
    """The ssh of a test that run."""
    pids = (tmp_path / "pids").read_text().split()
    return [pid for pid in pids if os.path.exists(f"/proc/{pid}")]


def test_both_ends_are_made_and_gone_when_closed(tmp_path, ssh, run):
    directory = tunnel.new_directory()
    assert os.stat(directory).st_mode & 0o777 == 0o700
    tunnel.lead_in(directory, ssh, "kvm1", 27700, run.pid)
    assert tunnel.lead_out(directory, ssh, "kvm2", run.pid) == 40123
    assert len(alive(tmp_path)) == 2
    assert tunnel.close(directory)
    assert alive(tmp_path) == []
    assert not os.path.exists(directory)
    assert not tunnel.close(directory)


def test_it_ends_with_the_run_that_wanted_it(tmp_path, ssh, run):
    directory = tunnel.new_directory()
    tunnel.lead_in(directory, ssh, "kvm1", 27700, run.pid)
    assert len(alive(tmp_path)) == 1
    run.kill()
    run.wait()
    deadline = time.monotonic() + 10
    while (alive(tmp_path) or os.path.exists(directory)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert alive(tmp_path) == []
    assert not os.path.exists(directory)


def test_what_ssh_says_last_is_the_error(ssh, run):
    directory = tunnel.new_directory()
    with pytest.raises(ConnectionError, match=r"^administratively prohibited$"):
        tunnel.lead_out(directory, [*ssh, "refuse"], "kvm2", run.pid)
    assert tunnel.close(directory)


def test_no_other_directory_is_removed(tmp_path):
    (tmp_path / "data").mkdir()
    assert not tunnel.close(str(tmp_path / "data"))
    assert (tmp_path / "data").exists()


def test_the_tunnel_has_connections_of_its_own(ssh):
    """The first value of an option counts: not those that Ansible shares, and nobody is asked for a password."""
    words = tunnel._with_options([*ssh, "-o", "ControlMaster=auto", "-o", "ControlPath=/somewhere"])
    assert words.index("ControlMaster=no") < words.index("ControlMaster=auto")
    assert words.index("ControlPath=none") < words.index("ControlPath=/somewhere")
    assert words.index("BatchMode=yes") < words.index("User=operator")
