# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a disk lies in decides something in one place on each side, where its kind is a class: a condition on it anywhere else fails here."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PLUGINS = Path(__file__).parents[3] / "plugins"
HOME = {"module_utils/_storage/kinds", "plugin_utils/planning/disk_kinds.py"}
"""Where kinds are told apart: on hosts, and in the plan."""
TELLING = frozenset(("source_type", "pool", "volume", "shared", "network"))
"""Fields of a disk, by its definition, its facts or a record, that say what it lies in."""
OTHERS = {
    ("module_utils/_domain/definition.py", "file_name"): "the reader of definitions itself: the name of a disk, whatever it lies in",
    ("module_utils/_guest/live_values.py", "as_defined"): "the network of an interface",
    ("modules/migration.py", "share"): "notes what the destination has found out, see `_storage.kinds.shared`",
    **{("plugin_utils/scheduler/filters/simple_cidr_affinity.py", function): "a network of addresses" for function in ("applies", "rejection")},
}
"""Conditions on fields of such names that are about something else."""


def tells(node: ast.AST) -> bool:
    """Whether an expression reads one of the fields."""
    if isinstance(node, ast.Attribute):
        return node.attr in TELLING
    if isinstance(node, ast.Subscript):
        return isinstance(node.slice, ast.Constant) and node.slice.value in TELLING
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "get" and node.args:
        return isinstance(node.args[0], ast.Constant) and node.args[0].value in TELLING
    return False


def conditions(node: ast.AST) -> Iterator[ast.AST]:
    """What decides something in a statement or expression, right there."""
    if isinstance(node, (ast.If, ast.IfExp, ast.While, ast.Assert)):
        yield node.test
    elif isinstance(node, ast.comprehension):
        yield from node.ifs
    elif isinstance(node, ast.BoolOp):
        yield from node.values
    elif isinstance(node, ast.Compare) or (isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not)):
        yield node
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("bool", "any", "all", "isinstance"):
        yield from node.args


def branches(tree: ast.AST, inside: str = "") -> Iterator[tuple[str, int]]:
    """Function and line of each condition on what a disk lies in, and of each kind that is taken by its own name."""
    for node in ast.iter_child_nodes(tree):
        within = node.name if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) else inside
        if any(tells(inner) for condition in conditions(node) for inner in ast.walk(condition)):
            yield within, getattr(node, "lineno", 0)
        if isinstance(node, ast.ImportFrom) and (node.module or "").rpartition(".")[2] in KINDS and "kinds" in (node.module or ""):
            yield within, node.lineno
        yield from branches(node, within)


KINDS = {path.stem for path in (PLUGINS / "module_utils" / "_storage" / "kinds").glob("*.py")} - {"kind", "registry"}
FILES = sorted(
    path.relative_to(PLUGINS).as_posix()
    for path in PLUGINS.rglob("*.py")
    if path.parent.name != "doc_fragments" and not any(path.relative_to(PLUGINS).is_relative_to(home) for home in HOME)
)


def test_nothing_asks_what_a_disk_lies_in_but_its_kind() -> None:
    strays = [
        f"{file}:{line} in {function or 'the module'}"
        for file in FILES
        for function, line in sorted(set(branches(ast.parse((PLUGINS / file).read_text()))))
        if (file, function) not in OTHERS
    ]
    assert strays == [], f"go through _storage.kinds.registry, or planning.disk_kinds on the controller: {strays}"


def test_each_exception_is_one() -> None:
    doing = {(file, function) for file in {file for file, _function in OTHERS} for function, _line in branches(ast.parse((PLUGINS / file).read_text()))}
    assert sorted(OTHERS.keys() - doing) == []


@pytest.mark.parametrize(
    "line",
    [
        'x = 1 if disk.get("shared") else 2', 'own = [disk for disk in disks if not disk.get("shared")]', 'if disk["pool"]: pass',
        'name = disk["volume"] if disk.get("pool") else None', 'if disk.source_type not in ("file", "volume"): pass', "path = disk.path or disk.volume",
        'flag = disk.source_type == "network"', 'while disk.get("network"): pass', 'flag = bool(disk.get("pool"))', 'flag = not disk["shared"]',
        "from .._storage.kinds.volume import Volume", "from ansible_collections.kvmfleet.compute.plugins.module_utils._storage.kinds.shared import Shared",
    ],
)  # fmt: skip
def test_a_branch_would_be_found(line: str) -> None:
    assert {function for function, _line in branches(ast.parse(f"def f():\n    {line}"))} == {"f"}


@pytest.mark.parametrize("line", ['facts = {"pool": disk.pool}', 'told = disk["volume"]', "kind = kinds.of(disk)", 'new = dict(disk, pool=answer["pool"])'])
def test_what_only_tells_it_further_is_no_branch(line: str) -> None:
    assert list(branches(ast.parse(f"def f():\n    {line}"))) == []
