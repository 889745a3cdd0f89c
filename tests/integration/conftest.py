# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One lab for all tests of a process; each test gets an inventory and guests of its own, and must leave nothing behind."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.fleet import Fleet
from support.guest import Guests
from support.jobs import Jobs, programs
from support.lab import Lab

pytest_plugins = ["support.parts", "support.retry"]
PAIR = ("kvm1", "kvm2")


@pytest.fixture(scope="session")
def lab() -> Lab:
    """The lab that KVMFLEET_LAB_DIR names, or that of this worker where there are several, with no guest in it."""
    if worker := os.environ.get("PYTEST_XDIST_WORKER"):
        os.environ["KVMFLEET_LAB_DIR"] += f"-{worker}"
    lab = Lab()
    lab.reset()
    return lab


@pytest.fixture
def fleet(lab: Lab, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Fleet]:
    """The hosts of zone north, kvm1 and kvm2, as an inventory; all of the lab where a test is marked whole_fleet. Each is gathered in each run."""
    fleet = Fleet(lab, tmp_path)
    if not request.node.get_closest_marker("whole_fleet"):
        fleet.hosts = {name: fleet.hosts[name] for name in PAIR}
    yield fleet
    fleet.kill_all()


@pytest.fixture
def jobs(lab: Lab, request: pytest.FixtureRequest) -> Iterator[Jobs]:
    """As `fleet`, with each playbook as a job of AWX, under the ansible-core of the tests, or another one (the parameter, or KVMFLEET_CORE: see `programs`)."""
    directory = Path(tempfile.mkdtemp(prefix="kvmfleet-jobs-", dir="/var/tmp"))  # others can get there
    directory.chmod(0o755)
    jobs = Jobs(lab, directory, programs(getattr(request, "param", os.environ.get("KVMFLEET_CORE", "default"))))
    if not request.node.get_closest_marker("whole_fleet"):
        jobs.hosts = {name: jobs.hosts[name] for name in PAIR}
    yield jobs
    shutil.rmtree(directory)


@pytest.fixture
def guests(lab: Lab) -> Iterator[Guests]:
    """Guests that live as long as the test."""
    guests = Guests(lab)
    yield guests
    guests.delete_all()


@pytest.fixture(autouse=True)
def nothing_left(lab: Lab) -> Iterator[None]:
    """No test leaves a claim, an export, a copy, a domain, a process or an open operation on any host."""
    yield
    left = lab.leftovers()
    lab.forget_kept()
    if left:
        lab.reset()
    assert not left, "left behind:\n" + "\n".join(left)
