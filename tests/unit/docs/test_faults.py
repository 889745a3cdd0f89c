# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""docs/faults.md names tests that exist, and says which of them are slow."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[3]
TEST = re.compile(r"`(test_\w+\.py)::(test_\w+)`")


def is_slow(file: str, name: str) -> bool:
    """Whether all its variants are."""
    return bool(re.search(rf"^@pytest\.mark\.slow\n(?:@.*\n)*def {name}\(", (ROOT / "tests" / "integration" / file).read_text(), re.MULTILINE))


def test_every_test_named_in_the_list_of_faults_exists() -> None:
    named = TEST.findall((ROOT / "docs" / "faults.md").read_text())
    assert len(named) > 20
    missing = [f"{file}::{name}" for file, name in named if f"def {name}(" not in (ROOT / "tests" / "integration" / file).read_text()]
    assert not missing


def test_a_row_says_which_tests_are_slow() -> None:
    rows = [line for line in (ROOT / "docs" / "faults.md").read_text().splitlines() if line.startswith("|") and TEST.search(line)]
    silent = [row for row in rows if "*slow*" not in row and any(is_slow(*test) for test in TEST.findall(row))]
    assert not silent, "\n".join(silent)
