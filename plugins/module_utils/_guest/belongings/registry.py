# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The kinds of things that belong to a guest beside its disks: a line for each. An operation asks all of them, in this order."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..._rules.values import Table
from .belonging import Belonging, Guest
from .console_logs import ConsoleLogs

ALL: tuple[Belonging, ...] = (ConsoleLogs(),)


def facts(guest: Guest) -> dict[str, Any]:
    """What a plan has to know of them."""
    return {key: value for kind in ALL for key, value in kind.facts(guest).items()}


def paths(told: Mapping[str, Any]) -> list[str]:
    """The paths of all files that they are in, by the facts of a guest or a record."""
    return [file.path for kind in ALL for file in kind.files(told, ())]


def forms() -> dict[str, Table]:
    """What each part of the manifest of a sealed guest may be."""
    return {kind.name: kind.form for kind in ALL if kind.form is not None}


def offered(record: Mapping[str, Any]) -> dict[str, Any]:
    """Those parts of the manifest, for a guest that is off and sealed."""
    return {kind.name: kind.offer(record) for kind in ALL if kind.form is not None}
