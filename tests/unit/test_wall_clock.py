# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""No unit test asserts that something took less than some seconds: a busy machine takes any time for anything.

What would never end is ended by the timeout of pytest. What must not wait is shown by a sleep that fails.
"""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

CLOCKS = {"monotonic", "perf_counter", "time"}
HERE = Path(__file__).parent


def bounds(tree: ast.AST) -> list[int]:
    """Lines of assertions outside loops that a difference of times is less than something. A loop that waits has a deadline."""
    waiting = {line.lineno for loop in ast.walk(tree) if isinstance(loop, (ast.While, ast.For)) for line in ast.walk(loop) if isinstance(line, ast.Assert)}
    asserts = [node for node in ast.walk(tree) if isinstance(node, ast.Assert) and node.lineno not in waiting]
    return [node.lineno for node in asserts for compare in ast.walk(node) if isinstance(compare, ast.Compare) and _is_bound(compare)]


def _is_bound(compare: ast.Compare) -> bool:
    sides = [compare.left, *compare.comparators]
    pairs = zip(sides, compare.ops, sides[1:])
    return any((isinstance(op, (ast.Lt, ast.LtE)) and _is_time(left)) or (isinstance(op, (ast.Gt, ast.GtE)) and _is_time(right)) for left, op, right in pairs)


def _is_time(node: ast.AST) -> bool:
    return isinstance(node, ast.BinOp) and isinstance(node.op, ast.Sub) and isinstance(node.left, ast.Call) and getattr(node.left.func, "attr", "") in CLOCKS


@pytest.mark.parametrize(
    ("code", "is_one"),
    [
        ("assert time.monotonic() - began < 5", True),
        ("assert 1 <= time.monotonic() - began < 5", True),
        ("assert 5 > time.time() - began", True),
        ("assert time.monotonic() - began > 5", False),
        ("while True:\n  assert time.monotonic() - began < 5", False),
    ],
)
def test_a_bound_is_found(code: str, is_one: bool) -> None:
    assert bool(bounds(ast.parse(code))) is is_one


def test_no_unit_test_has_one() -> None:
    assert {str(path.relative_to(HERE)): found for path in HERE.rglob("test_*.py") if (found := bounds(ast.parse(path.read_text())))} == {}
