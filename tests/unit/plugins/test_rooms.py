# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The walls between the rooms of plugins/: which room may import which. An import that crosses a wall has to change this table, and is seen."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PLUGINS = Path(__file__).parents[3] / "plugins"
ROOT = "ansible_collections.kvmfleet.compute.plugins"

_FLOOR = {"_rules", "_system"}
_BELOW_STORAGE = {*_FLOOR, "_journal", "_libvirt", "_domain"}
_BELOW_GUEST = {*_BELOW_STORAGE, "_storage", "_host"}
HOSTS = {
    "_rules": set(),
    "_system": {"_rules"},
    "_journal": _FLOOR,
    "_libvirt": _FLOOR,
    "_domain": {"_rules"},
    "_storage": _BELOW_STORAGE,
    "_channel": {*_FLOOR, "_journal", "_storage"},
    "_host": {*_BELOW_STORAGE, "_storage"},
    "_guest": _BELOW_GUEST,
    "_operation": {*_BELOW_GUEST, "_guest", "_channel", "_module", "_options"},
    "_options": {"_rules"},
    "_module": {*_FLOOR, "_journal", "_libvirt", "_options"},
}
"""Room in module_utils, which runs on hosts -> those that it may import. All but `_module` and `_options`, the frame of a module, are folders."""
CONTROLLER = {
    "plugin_utils": {"_rules"},
    "plugin_utils.scheduler": {"plugin_utils", "_rules"},
    "plugin_utils.planning": {"plugin_utils", "plugin_utils.scheduler", "plugin_utils.given", "_rules"},
    "plugin_utils.fleet": {"plugin_utils", "plugin_utils.scheduler", "plugin_utils.planning", "_rules"},
    "plugin_utils.given": {"plugin_utils", "_rules"},
    "plugin_utils.artifacts": {"plugin_utils.planning", "plugin_utils.fleet"},
    "plugin_utils.awx": {"plugin_utils", "plugin_utils.given", "_rules"},
}
"""The same for what runs on the controller. `plugin_utils` itself are the files that lie in none of its rooms."""
SHELLS = dict.fromkeys(("action", "filter", "lookup"), {*CONTROLLER, "_rules"})
ALLOWED = {**HOSTS, **CONTROLLER, **SHELLS, "modules": set(HOSTS)}
DOORS = {"ansible": {"_module", "modules", *SHELLS}, "libvirt": {"_libvirt"}, "libvirt_qemu": {"_libvirt"}}
"""Package -> the only rooms that import it."""


def room_of(module: str) -> str:
    """The room of a file or of something in it, given its dotted name below plugins/."""
    first, *rest = module.split(".")
    if first == "module_utils":
        return rest[0]
    return f"{first}.{rest[0]}" if first == "plugin_utils" and rest and (PLUGINS / first / rest[0]).is_dir() else first


def imported(tree: ast.AST, package: list[str]) -> Iterator[str]:
    """The dotted name of everything that a file in this package imports."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join([*package[: len(package) - node.level + 1], *filter(None, [node.module])]) if node.level else node.module
            yield from (f"{base}.{alias.name}" for alias in node.names)


def crossings(text: str, path: Path) -> list[str]:
    """Each import of a file that crosses a wall."""
    parts = path.with_suffix("").parts
    own = room_of(".".join(parts))
    found = []
    for name in imported(ast.parse(text), [*ROOT.split("."), *parts[:-1]]):
        top = name.partition(".")[0]
        if name.startswith(ROOT + "."):
            room = room_of(name[len(ROOT) + 1 :])
            if room not in {own, *ALLOWED[own]}:
                found.append(f"{own} -> {room}: {name}")
        elif top in DOORS and own not in DOORS[top]:
            found.append(f"{own} -> {name}")
    return found


FILES = sorted(path.relative_to(PLUGINS) for path in PLUGINS.rglob("*.py") if path.parent.name != "doc_fragments")


def test_every_room_has_its_walls() -> None:
    assert {room_of(".".join(path.with_suffix("").parts)) for path in FILES} == set(ALLOWED)


@pytest.mark.parametrize("path", FILES, ids=str)
def test_no_import_crosses_a_wall(path: Path) -> None:
    assert crossings((PLUGINS / path).read_text(), path) == []


@pytest.mark.parametrize(
    ("path", "line", "crossed"),
    [
        ("module_utils/_rules/new.py", "from .._system import paths", "_rules -> _system"),
        ("module_utils/_domain/new.py", "from .._libvirt.connection import define", "_domain -> _libvirt"),
        ("module_utils/_storage/new.py", f"from {ROOT}.module_utils._guest import power", "_storage -> _guest"),
        ("module_utils/_storage/new.py", "def later():\n    from .._operation import sealing", "_storage -> _operation"),
        ("module_utils/_guest/new.py", "import libvirt", "_guest -> libvirt"),
        ("module_utils/_operation/new.py", "from ansible.module_utils.basic import AnsibleModule", "_operation -> ansible"),
        ("modules/new.py", "import libvirt", "modules -> libvirt"),
        ("plugin_utils/planning/new.py", f"from {ROOT}.module_utils._journal.records import Journal", "plugin_utils.planning -> _journal"),
        ("plugin_utils/scheduler/new.py", f"from {ROOT}.plugin_utils.planning import fleet", "plugin_utils.scheduler -> plugin_utils.planning"),
        ("plugin_utils/planning/new.py", "import ansible.errors", "plugin_utils.planning -> ansible"),
        ("filter/new.py", f"from {ROOT}.module_utils._storage import qemu_img", "filter -> _storage"),
    ],
)
def test_an_import_that_crosses_would_be_found(path: str, line: str, crossed: str) -> None:
    (found,) = crossings(line, Path(path))
    assert found.startswith(crossed)


LINES, FUNCTION_LINES, BRANCHES = 400, 60, 20
_BRANCH = (ast.If, ast.For, ast.While, ast.IfExp, ast.ExceptHandler, ast.comprehension)


def oversized(text: str) -> list[str]:
    """What of a file is longer, or has more branches, than can be read at once. The options of a module are documentation, and do not count."""
    tree = ast.parse(text)
    told = [node.value for node in tree.body if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)]
    lines = len(text.splitlines()) - sum(len(value.value.splitlines()) for value in told if isinstance(value.value, str))
    found = [f"{lines} lines"] if lines > LINES else []
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            length = (node.end_lineno or 0) - node.lineno + 1
            branches = sum(isinstance(inner, _BRANCH) for inner in ast.walk(node))
            if length > FUNCTION_LINES or branches > BRANCHES:
                found.append(f"{node.name}: {length} lines, {branches} branches")
    return found


@pytest.mark.parametrize("path", FILES, ids=str)
def test_files_and_functions_can_be_read_at_once(path: Path) -> None:
    assert oversized((PLUGINS / path).read_text()) == []


def test_what_is_too_long_would_be_found() -> None:
    assert oversized("x = 1\n" * 401) == ["401 lines"]
    assert oversized("def f():\n" + "    x()\n" * 60) == ["f: 61 lines, 0 branches"]
    assert oversized("def f():\n" + "    if x: x()\n" * 21) == ["f: 22 lines, 21 branches"]
