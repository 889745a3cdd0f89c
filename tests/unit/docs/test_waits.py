# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""docs/waits.md has every place of the code that waits for something, and no other: whoever adds one has to say how it ends."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from ansible_collections.kvmfleet.compute.tests.unit.plugins.module_utils.sources import sources

ROOT = Path(__file__).parents[3]
CALLS = frozenset(
    ("time.sleep", "select.select", "socket.create_connection", "os.waitpid", "open_url", "libvirt.open", "fcntl.flock")
    + tuple(f"subprocess.{name}" for name in ("run", "Popen", "call", "check_call", "check_output"))
)
NO_WAITS = ("_connection.connect", "domain.connect", "guest.domain.connect", "probe.connect")
"""One has a row of its own, two ask a domain for its connection, and with the last nothing is sent."""
METHODS = frozenset(("wait", "communicate", "recv", "connect", "accept", "readline", "acquire"))


def waits(node: ast.AST) -> bool:
    """Whether this is something that may take long by itself, or a loop that only what is in it ends."""
    if isinstance(node, ast.While):
        return isinstance(node.test, ast.Constant)
    if not isinstance(node, ast.Call):
        return False
    if isinstance(node.func, ast.Attribute) and (node.func.attr in METHODS or (node.func.attr == "join" and not node.args)):
        return ast.unparse(node.func) not in NO_WAITS
    return ast.unparse(node.func) in CALLS


def places(tree: ast.AST, where: str, within: str = "") -> Iterator[str]:
    """Module and function of everything that waits."""
    for node in ast.iter_child_nodes(tree):
        inner = within
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and not within:
            inner = f".{node.name}"
        if waits(node):
            yield where + inner
        yield from places(node, where, inner)


def in_code() -> set[str]:
    found = {place for name, _path, tree in sources() for place in places(tree, name)}
    files = [path for room in ("action", "filter", "plugin_utils") for path in sorted((ROOT / "plugins" / room).rglob("*.py"))]
    return found | {place for path in files for place in places(ast.parse(path.read_text()), path.stem)}


def in_table() -> set[str]:
    rows = [line.split("|")[1] for line in (ROOT / "docs" / "waits.md").read_text().splitlines() if line.startswith("| `")]
    return {place for row in rows for place in re.findall(r"`([\w.]+)`", row)}


def test_every_place_that_waits_is_in_the_table_with_its_end() -> None:
    assert len(in_code()) > 20
    assert sorted(in_code() - in_table()) == []
    assert sorted(in_table() - in_code()) == []


def test_a_new_place_would_be_found() -> None:
    asks = "def ask():\n  subprocess.run(['x'])\n"
    turns = "class A:\n  def turn(self):\n    while True:\n      self.thread.join()\n"
    writes = "def write():\n  return ', '.join([])\n"
    assert sorted(set(places(ast.parse(asks + turns + writes), "_new"))) == ["_new.ask", "_new.turn"]
