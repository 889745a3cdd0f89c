# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Nothing but the main thread of a worker may come to the terminal: see `_told` of the action plugin migration, and tests/compat/progress.py."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ACTIONS = Path(__file__).parents[4] / "plugins" / "action"
THREADS = {"threading", "_thread", "concurrent", "concurrent.futures", "multiprocessing", "multiprocessing.pool", "multiprocessing.dummy", "asyncio"}


def imported(tree: ast.AST) -> set[str]:
    return {
        name
        for node in ast.walk(tree)
        for name in ([alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""] if isinstance(node, ast.ImportFrom) else [])
    }


@pytest.mark.parametrize("path", sorted(ACTIONS.glob("*.py")), ids=lambda path: path.stem)
def test_no_action_plugin_has_a_thread(path):
    """A thread of it may come to the terminal by whatever it calls, such as a connection that says what it does."""
    assert not imported(ast.parse(path.read_text())) & THREADS
