# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Only a fault of the lab is tried again, and only what the kernel or the host itself says is one."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from ansible_collections.kvmfleet.compute.tests.lab import faults

INTEGRATION = Path(__file__).parents[2] / "integration"
_CONFTEST = """
import pytest
from lab import fleet
from support import retry

pytest_plugins = ["support.retry"]
fleet.existing_lab = lambda: None
fleet.all_hosts = lambda lab: []

class Watch:
    found = []
    def __init__(self, hosts, since): pass
    def close(self): self.found.clear()
    def faults(self): return list(self.found)

retry.Watch = Watch

@pytest.fixture
def lab(): pass
"""
_TESTS = """
from lab.errors import LabFault
from support import retry

tries = {}

def again(name):
    tries[name] = tries.get(name, 0) + 1
    return tries[name] > 1

def test_asserts(): assert again("asserts")
def test_says_so(): assert again("says_so"), "LabFault: the code under test says so"
def test_stands_still():
    if not again("stands_still"): raise LabFault("guest web stands still")
def test_stood_on_sshd():
    if not again("sshd"):
        retry.Watch.found.append("sshd of kvm1 died of itself")
        assert False, "what the test saw of it"
"""


@pytest.fixture
def crashing(tmp_path: Path) -> Path:
    """A program that is called like QEMU and crashes."""
    program = tmp_path / "qemu-system-x"
    shutil.copy(os.path.realpath(sys.executable), program)
    return program


def host(answers: dict[str, str]) -> SimpleNamespace:
    """A host that says something to scripts in which a word occurs."""

    def run(argv: list[str], check: bool) -> SimpleNamespace:
        return SimpleNamespace(stdout=next((answer for word, answer in answers.items() if word in argv[-1]), ""))

    return SimpleNamespace(name="kvm1", pid=1, run=run)


@pytest.fixture
def watches() -> Iterator[list[faults.Watch]]:
    made: list[faults.Watch] = []
    yield made
    for watch in made:
        watch.close()


def test_an_assertion_has_no_second_try(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text(_CONFTEST)
    (tmp_path / "test_four.py").write_text(_TESTS)
    options = ["-p", "no:pytest-ansible", "-p", "no:cacheprovider", "--reruns", "1", "--only-rerun", "^LabFault: "]
    places = ["-c", "/dev/null", "--rootdir", str(tmp_path), "-o", f"pythonpath={INTEGRATION} {INTEGRATION.parent}", str(tmp_path)]
    command = [sys.executable, "-m", "pytest", "-q", "-rA", *options, *places]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}, check=False)
    failed = {line.split("::")[1].split(" ")[0] for line in done.stdout.splitlines() if line.startswith("FAILED")}
    assert (failed, done.returncode) == ({"test_asserts", "test_says_so"}, 1), done.stdout
    assert "lab faults: 2 tests tried again" in done.stdout
    assert "LabFault: sshd of kvm1 died of itself" in done.stdout


def test_the_options_of_the_integration_tests_are_those() -> None:
    assert '--reruns 1 --only-rerun "^LabFault: "' in (INTEGRATION / "pytest.ini").read_text()


@pytest.mark.skipif(not os.access(faults.KERNEL_LOG, os.R_OK), reason="the kernel's log is not shown here")
def test_a_crash_that_the_kernel_tells_is_a_fault_where_libvirt_misses_the_guest(crashing: Path, watches: list[faults.Watch]) -> None:
    here, elsewhere = host({"reason=crashed": "/var/log/libvirt/qemu/web.log"}), host({})
    watches += [faults.Watch([place], time.time()) for place in (here, elsewhere)]
    assert not watches[0].faults()
    subprocess.run([crashing, "-c", "import ctypes; ctypes.string_at(0)"], env={"PYTHONHOME": sys.base_prefix}, capture_output=True, check=False)
    (fault,) = watches[0].faults()
    assert fault.startswith("QEMU crashed on kvm1: qemu-system-x[")
    assert "segfault" in fault
    assert not watches[1].faults()


@pytest.mark.parametrize(
    ("line", "is_one"),
    [
        ("CPU 0/TCG[12]: segfault at 0 ip 00007efd50f85ad8", True),
        ("traps: qemu-system-x86[12] general protection fault ip:7f sp:7f error:0", True),
        ("Out of memory: Killed process 12 (qemu-system-x86) total-vm:1kB", True),
        ("python3[12]: segfault at 0 ip 00007efd50f85ad8", False),
        ("br0: port 2(vnet0) entered forwarding state", False),
    ],
)
def test_what_the_kernel_says_of_others_is_no_fault(tmp_path: Path, watches: list[faults.Watch], line: str, is_one: bool) -> None:
    log = tmp_path / "kmsg"
    log.write_text("6,1,1,-;CPU 0/TCG[1]: segfault at 0, before\n")
    watches.append(faults.Watch([host({"reason=crashed": "web.log"})], time.time(), log))
    with log.open("a") as written:
        written.write(f"6,2,2,-;{line}\n")
    assert bool(watches[0].faults()) is is_one


def test_a_daemon_that_left_its_process_id_is_a_fault(tmp_path: Path, watches: list[faults.Watch]) -> None:
    watches.append(faults.Watch([host({"/run/sshd.pid": "died"})], time.time(), tmp_path / "none"))
    assert watches[0].faults() == ["sshd of kvm1 died of itself"]
