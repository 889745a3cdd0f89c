# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Each kind of thing that belongs to a guest is one file: nothing that runs on hosts above the room of images knows of any of them outside its own."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from ansible_collections.kvmfleet.compute.plugins.module_utils._guest.belongings import registry as _registry

PLUGINS = Path(__file__).parents[3] / "plugins"
FOLDER = PLUGINS / "module_utils/_guest/belongings"
WORDS = {
    "checkpoints": "(has_)?checkpoints?",
    "console_logs": r"console_?logs?|log_inodes",
    "nvram": "firmware_variables|(kept_|sealed_)?nvram(_back)?(?!_template)",
    "secrets": "secrets?|secret_proofs|carried_secrets|defined_secrets|secret_store",
    "snapshots": "snapshots?",
    "tpm": "s?w?tpm",
}
"""Kind -> what names it in code."""
FRAME = {"belonging.py", "registry.py"}
EXCEPTIONS: dict[tuple[str, str], str] = {
    ("module_utils/_guest/defining.py", "nvram"): "an attribute that a libvirt may leave out",
    ("module_utils/_guest/handed_definition.py", "nvram"): "an element that a definition may have once",
    ("module_utils/_guest/fitness.py", "secrets"): "tells a person that an encrypted image of a disk needs one",
    ("module_utils/_guest/live_values.py", "tpm"): "its device in a definition, which libvirt fills in as it starts the guest",
    ("module_utils/_guest/belongings/secrets.py", "tpm"): "one of the places where a definition names a secret",
    ("module_utils/_host/capabilities.py", "tpm"): "whether the host can emulate one",
    ("module_utils/_operation/withdrawing.py", "snapshots"): "tells a person what to do about one that somebody has made since",
    **{(f"modules/{module}.py", "secrets"): "an option or a result of the module" for module in ("claim", "migration", "source_copy")},
}
"""File and kind -> why it has to know of it."""


def words(text: str) -> Iterator[str]:
    """Every name and every text in code, but for docstrings and the documentation of modules."""
    tree = ast.parse(text)
    told = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    told |= {id(node.value) for node in tree.body if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in told:
            yield node.value
        yield from (value for field in ("id", "attr", "arg", "name", "asname", "module") if isinstance(value := getattr(node, field, None), str))


def kinds_in(text: str) -> set[str]:
    found = list(words(text))
    return {kind for kind, pattern in WORDS.items() if any(re.search(rf"(?<![A-Za-z])({pattern})(?![A-Za-z])", word, re.IGNORECASE) for word in found)}


def walked() -> Iterator[Path]:
    rooms = [PLUGINS / "module_utils" / room for room in ("_channel", "_host", "_guest", "_operation")]
    for folder in (*rooms, PLUGINS / "modules", PLUGINS / "action"):
        yield from (path for path in sorted(folder.rglob("*.py")) if path.parent != FOLDER)


def test_each_kind_is_a_file_and_a_line() -> None:
    files = {path.name for path in FOLDER.glob("*.py")} - FRAME
    assert {Path(f"{type(kind).__module__.rpartition('.')[2]}.py").name for kind in _registry.ALL} == files
    assert len({kind.name for kind in _registry.ALL}) == len(_registry.ALL) == len(files)
    assert {kind.name for kind in _registry.ALL} == set(WORDS)


def test_nothing_else_knows_of_a_kind() -> None:
    found = {(str(path.relative_to(PLUGINS)), kind) for path in walked() for kind in kinds_in(path.read_text())}
    assert found == {(file, kind) for file, kind in EXCEPTIONS if "/belongings/" not in file}


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.py")), ids=lambda path: path.name)
def test_no_kind_knows_of_another_one(path: Path) -> None:
    own = {kind.name for kind in _registry.ALL if type(kind).__module__.rpartition(".")[2] == path.stem}
    allowed = {kind for file, kind in EXCEPTIONS if file.endswith(f"/belongings/{path.name}")}
    assert path.name == "registry.py" or kinds_in(path.read_text()) == own | allowed


@pytest.mark.parametrize(
    "line",
    [
        'record = {"console_logs": []}',
        'f"{console_logs} of it"',
        "from .._guest.belongings import console_logs as _logs",
        "def forget(console_log): pass",
        "_console_logs.read(record)",
    ],
)
def test_one_that_is_known_elsewhere_would_be_found(line: str) -> None:
    assert kinds_in(line) == {"console_logs"}
    assert kinds_in(f'"""{line}"""' if '"' not in line else "x = 1") == set()
