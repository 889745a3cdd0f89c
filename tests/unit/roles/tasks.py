# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The tasks of a task file, for tests that read them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


def tasks_in(document: Any) -> Iterator[dict[str, Any]]:
    """Every task of a list of them, those of its blocks included."""
    for task in document or []:
        yield task
        for part in ("block", "rescue", "always"):
            yield from tasks_in(task.get(part))
