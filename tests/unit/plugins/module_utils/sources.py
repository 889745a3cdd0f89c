# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The code that runs on hosts, for tests that look for what must not stand in it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

PLUGINS = Path(__file__).parents[4] / "plugins"


def sources() -> Iterator[tuple[str, Path, ast.Module]]:
    """Name, path and tree of each file. A name is that of the room and of the file in it, as in `_storage.files`, or that of a module."""
    for top in ("module_utils", "modules"):
        for path in sorted((PLUGINS / top).rglob("*.py")):
            yield ".".join(path.relative_to(PLUGINS / top).with_suffix("").parts), path, ast.parse(path.read_text())
