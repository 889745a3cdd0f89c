# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs of the integration tests in parts, with pytest itself on small tests."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
CONFTEST = "from parts import pytest_addoption, pytest_configure"
TESTS = """
import os, pytest
@pytest.mark.parametrize("point", range(5))
def test_point(point, request):
    request.node.user_properties.append(("crash sweep", "tried"))
    print("ran", point)
    assert str(point) != os.environ.get("BROKEN")
    request.node.user_properties.append(("crash sweep", "survived"))
"""


@pytest.fixture
def run(tmp_path):
    """Runs five tests, of which each is a point of a sweep, in a tree of their own."""
    here = tmp_path / "tests" / "integration"
    (here / "support").mkdir(parents=True)
    shutil.copy(ROOT / "tests/integration/support/parts.py", here / "support/parts.py")
    (here / "conftest.py").write_text(CONFTEST)
    (here / "test_points.py").write_text(TESTS)

    def pytest_there(*arguments, broken=""):
        environment = {**os.environ, "PYTHONPATH": str(here / "support"), "BROKEN": broken, "PYTHONDONTWRITEBYTECODE": "1"}
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-s",
            "-q",
            "-p",
            "no:cacheprovider",
            "-p",
            "no:pytest-ansible",
            "-p",
            "no:xdist",
            "-p",
            "no:hypothesispytest",
            *arguments,
        ]
        ended = subprocess.run(command, cwd=here, env=environment, capture_output=True, text=True, check=False)
        return ended.returncode, sorted(int(point) for point in re.findall(r"ran (\d)", ended.stdout)), (ended.stdout.splitlines() or [""])[-1]

    return pytest_there


def test_the_shares_are_the_whole(run):
    assert [run(f"--shard={share}/2") for share in (1, 2)] == [
        (0, [0, 2, 4], "crash sweep: 3 points tried, 3 survived"),
        (0, [1, 3], "crash sweep: 2 points tried, 2 survived"),
    ]


@pytest.mark.parametrize("wrong", ["0/2", "3/2", "2", "a/b", ""])
def test_what_is_no_share_is_refused(run, wrong):
    status, ran, _last = run(f"--shard={wrong}")
    assert (status, ran) == (4, [])


def test_what_has_passed_is_not_run_again_and_counts(run, tmp_path):
    kept = f"--resume={tmp_path / 'passed.jsonl'}"
    assert run(kept, broken="3") == (1, [0, 1, 2, 3, 4], "crash sweep: 5 points tried, 4 survived")
    assert run(kept, "--shard=2/2") == (0, [3], "crash sweep: 5 points tried, 5 survived")
    assert run(kept) == (0, [], "crash sweep: 5 points tried, 5 survived")


def test_what_has_passed_on_other_code_is_run_again(run, tmp_path):
    kept = f"--resume={tmp_path / 'passed.jsonl'}"
    assert run(kept)[1] == [0, 1, 2, 3, 4]
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "other.py").write_text("")
    assert run(kept)[1] == [0, 1, 2, 3, 4]
