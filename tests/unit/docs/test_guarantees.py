# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""README guarantees nothing that no test shows."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[3]
TEST = re.compile(r"`(test_\w+\.py)::(test_\w+)`")


def rows() -> dict[str, list[tuple[str, str]]]:
    """Number of a guarantee -> file and name of each test."""
    listed = [line for line in (ROOT / "docs" / "guarantees.md").read_text().splitlines() if re.match(r"\| \d+ \|", line)]
    return {row.split("|")[1].strip(): TEST.findall(row) for row in listed}


def test_every_guarantee_has_a_fast_test_and_one_on_real_hosts() -> None:
    promises = (ROOT / "README.md").read_text().partition("\n## What it guarantees\n")[2].partition("\n## ")[0]
    promised = re.findall(r"^(\d+)\. ", promises, re.MULTILINE)
    assert list(rows()) == promised == [str(number) for number in range(1, 14)]
    slow = {number: [file for file, _name in tests if (ROOT / "tests" / "integration" / file).exists()] for number, tests in rows().items()}
    assert not [number for number, files in slow.items() if not files]
    assert not [number for number, tests in rows().items() if len(tests) == len(slow[number])]


def test_every_test_that_is_named_exists() -> None:
    texts = [(path.name, path.read_text()) for path in ROOT.glob("tests/**/test_*.py")]
    named = [test for tests in rows().values() for test in tests]
    missing = [f"{file}::{name}" for file, name in named if not any(path == file and f"def {name}(" in text for path, text in texts)]
    assert not missing
