# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Lines of a job's log, short enough to be read in it."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable

WIDTH = 150


def wrapped(lines: Iterable[str]) -> list[str]:
    """The lines, long ones in several, of which the later ones are indented."""
    return [part for line in lines for part in _parts(line) if part.strip()]


def _parts(line: str) -> list[str]:
    indent = " " * (len(line) - len(line.lstrip()) + 2)
    return textwrap.wrap(line, WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False) or [line]
