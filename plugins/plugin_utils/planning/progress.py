# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How far a copy is, in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def copy_progress(progress: Mapping[str, Any]) -> str:
    """The document of a copy that runs, in words."""
    left = "" if progress["eta"] is None else f", {progress['eta']:.0f} s left"
    return f"{progress['percent']:.0f} % of {progress['bytes_total'] / 2**20:.0f} MiB, {rate(progress['rate'])}{left}"


def rate(bytes_a_second: float, digits: int = 1) -> str:
    """A rate in a unit in which a slow one does not read as none."""
    return f"{bytes_a_second / 2**20:.{digits}f} MiB/s" if bytes_a_second >= 2**20 else f"{bytes_a_second / 2**10:.0f} KiB/s"
