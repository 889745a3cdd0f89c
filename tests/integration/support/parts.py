# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A run that takes hours, in parts: a share of its tests on each of several machines, and after an interruption only what has not passed yet."""

from __future__ import annotations

import argparse
import hashlib
import json
import re
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
TESTED = ("plugins", "roles", "playbooks", "tests/integration", "tests/lab")
SWEEPS = ("crash sweep", "meddling sweep")


def share(text: str) -> str:
    """K/N: the Kth of N shares, as an argument of the command."""
    found = re.fullmatch(r"(\d+)/(\d+)", text)
    if not found or not 1 <= int(found[1]) <= int(found[2]):
        raise argparse.ArgumentTypeError(f"{text!r} is no share; 2/5 is the second of five")
    return text


def pytest_addoption(parser: pytest.Parser) -> None:
    """A run of several hours can be done in parts."""
    group = parser.getgroup("parts of a long run")
    group.addoption("--shard", metavar="K/N", type=share, default="1/1", help="only every Nth test, from the Kth on")
    group.addoption("--resume", metavar="FILE", default="", help="leave out what has passed on this code by this list, and add to it what passes")


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(Parts(config.getoption("shard"), config.getoption("resume"), hasattr(config, "workerinput")))


def digest_of_code() -> str:
    """What has passed on other code, or by other tests, does not count."""
    digest = hashlib.sha256()
    for path in sorted(path for directory in TESTED for path in (ROOT / directory).rglob("*")):
        if path.is_file() and path.suffix in (".py", ".yml", ".j2", ".json", ".ini"):
            digest.update(f"{path.relative_to(ROOT)}\0".encode() + path.read_bytes() + b"\0")
    return digest.hexdigest()


class Parts:
    """Which tests are left of a run, and what all of its parts together have shown of the sweeps.

    :param share: K/N; :param resume: file with a line for each test that has passed, empty where nothing is kept; :param worker: of pytest-xdist.
    """

    def __init__(self, share: str, resume: str, worker: bool) -> None:
        self.which, self.of = (int(number) for number in share.split("/"))
        self.resume, self.worker = Path(resume) if resume else None, worker
        self.code = digest_of_code() if resume else ""
        self.passed: dict[str, Counter[str]] = {}
        self.failed: Counter[str] = Counter()
        if self.resume and self.resume.exists():
            lines = [json.loads(line) for line in self.resume.read_text().splitlines()]
            self.passed = {line["test"]: Counter(line["points"]) for line in lines if line["code"] == self.code}

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        """Leave out the other shares, whose tests alternate with those of this one, and what has passed."""
        left = [item for number, item in enumerate(items) if number % self.of == self.which - 1 and item.nodeid not in self.passed]
        config.hook.pytest_deselected(items=[item for item in items if item not in left])
        items[:] = left

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep what has passed, with the points of a sweep that it has tried, and count the points that were lost."""
        if self.worker or report.when != "call":
            return
        points = Counter(f"{name}: {value}" for name, value in report.user_properties if name in SWEEPS)
        if not report.passed:
            self.failed.update(points)
            return
        self.passed[report.nodeid] = points
        if self.resume:
            with self.resume.open("a") as stream:
                stream.write(json.dumps({"code": self.code, "test": report.nodeid, "points": points}) + "\n")

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """That nothing is left to run is no failure."""
        if session.exitstatus == pytest.ExitCode.NO_TESTS_COLLECTED and self.passed:
            session.exitstatus = pytest.ExitCode.OK

    def pytest_unconfigure(self) -> None:
        """Sum up each sweep that there was, after everything else."""
        total = sum(self.passed.values(), Counter()) + self.failed
        for name in () if self.worker else SWEEPS:
            if total[f"{name}: tried"]:
                print(f"{name}: {total[f'{name}: tried']} points tried, {total[f'{name}: survived']} survived")
