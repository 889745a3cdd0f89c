# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""docs/errors.md has every code that a program may get, and no other."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[3]
CODE = re.compile(r"[a-z]+(_[a-z]+)*")
RAISED_BY = ("KvmfleetError", "_reason", "Reason")


def strings(tree: ast.AST) -> set[str]:
    """Every text in the source that could be a code."""
    return {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str) and CODE.fullmatch(node.value)}


def codes(tree: ast.AST) -> Iterator[str]:
    """The codes of errors that are made here: what is told first, or yielded before the sentence."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and node.args and ast.unparse(node.func).rpartition(".")[2] in RAISED_BY:
            yield from strings(node.args[0])
        elif isinstance(node, ast.Yield) and isinstance(node.value, ast.Tuple) and len(node.value.elts) == 2:
            first, sentence = node.value.elts
            if isinstance(first, ast.Constant) and (isinstance(sentence, ast.JoinedStr) or (isinstance(sentence, ast.Constant) and " " in str(sentence.value))):
                yield from strings(first)


def documented() -> set[str]:
    """The codes in the first column of the tables."""
    rows = [line for line in (ROOT / "docs" / "errors.md").read_text().splitlines() if line.startswith("| `")]
    return {code for row in rows for code in re.findall(r"`(\w+)`", row.split("|")[1])}


def refused_with() -> set[str]:
    """The codes that roles and playbooks refuse with."""
    texts = [path.read_text() for place in ("roles/*/tasks", "playbooks") for path in ROOT.glob(f"{place}/**/*.yml")]
    return {code for text in texts for code in re.findall(r"^ +code: (\w+)$|'code': '(\w+)'", text, re.MULTILINE) for code in code if code}


def trees() -> Iterator[ast.AST]:
    for room in ("module_utils", "modules", "action", "filter", "plugin_utils/planning", "plugin_utils/fleet", "plugin_utils/artifacts"):
        for path in sorted((ROOT / "plugins" / room).rglob("*.py")):
            yield ast.parse(path.read_text())


def test_every_code_is_documented() -> None:
    made = {code for tree in trees() for code in codes(tree)}
    assert len(made) > 100
    assert sorted((made | refused_with()) - documented()) == []


def test_every_documented_code_exists() -> None:
    told = {text for tree in trees() for text in strings(tree)} | {f"invalid_{role}_disk" for role in ("ephemeral", "swap")}
    told |= set(re.findall(r"'(\w+)'", (ROOT / "roles" / "migrate" / "vars" / "main.yml").read_text()))
    told |= refused_with()
    assert sorted(documented() - told) == []
