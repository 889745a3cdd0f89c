# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab that all this stands on; `script/lab selftest` tests it in full."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path

from lab import fleet
from lab.faults import Watch
from lab.locking import exclusive
from lab.settings import STATE_FILE
from support.faults import eventually
from support.guest import Guests
from support.lab import SCRIPT, Lab


def test_the_hosts_are_hosts_of_their_own(lab: Lab, guests: Guests) -> None:
    """Each has its identity, name, address and guests."""
    guests.create("web", "kvm1", start=False)
    hosts = lab.hosts.values()
    assert [host.run("hostname") for host in hosts] == list(lab.hosts)
    assert len({host.run("cat", "/etc/machine-id") for host in hosts}) == len(lab.hosts)
    assert [host.domains for host in hosts] == [["web"], [], [], []]
    assert lab.call("status").returncode == 0


def test_a_lab_that_is_taken_down_meanwhile_starts_no_host(lab: Lab, tmp_path: Path) -> None:
    """Whoever waited for the lab looks at it anew, and does not make files of a lab that is gone."""
    directory = tmp_path / "lab"
    with exclusive(directory):
        shutil.copy(fleet.existing_lab().directory / STATE_FILE, directory)
        start = subprocess.Popen([SCRIPT, "host", "start", "kvm1"], env={**os.environ, "KVMFLEET_LAB_DIR": str(directory)}, stderr=subprocess.PIPE, text=True)
        eventually(lambda: directory in {link.resolve() for link in Path(f"/proc/{start.pid}/fd").iterdir()}, "the command waits for the lab")
        shutil.rmtree(directory)
    _output, errors = start.communicate(timeout=60)
    assert (start.returncode, errors) == (1, f"lab: there is no lab in {directory}: run `script/lab up`\n")
    assert not directory.exists()


def test_only_a_daemon_that_dies_of_itself_is_a_fault_of_the_lab(lab: Lab) -> None:
    """One that is told to stop is none; one that is killed by another is all that can be made to happen."""
    watch = Watch(fleet.all_hosts(fleet.existing_lab()), time.time())
    try:
        lab.call("host", "stop-service", "kvm3", "virtlogd")
        assert watch.faults() == []
        lab.call("host", "start-service", "kvm3", "virtlogd")
        lab["kvm3"].sh("kill -KILL $(cat /run/virtlogd.pid)")
        eventually(lambda: watch.faults() == ["virtlogd of kvm3 died of itself"], "it is noticed")
    finally:
        watch.close()
        lab.call("host", "start-service", "kvm3", "virtlogd")
