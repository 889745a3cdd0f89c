# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which facts may be decided from: those that were gathered in this run, or, where the caller says so, others that are not too old."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.run import Run


def read_in(run: Run, facts: Mapping[str, Any]) -> bool:
    """Whether these facts were gathered in the run, or say that a host did not answer it."""
    return facts.get("run") == run.name


def marked(hosts: Iterable[Mapping[str, Any]], run: Run) -> list[dict[str, Any]]:
    """The facts, each with whether it was gathered in the run as `read_now`, whatever it says of itself."""
    return [{**facts, "read_now": read_in(run, facts)} for facts in hosts]


def old(names: Iterable[str], facts: Collection[Mapping[str, Any]], run: Run, max_age: float) -> list[str]:
    """The hosts without facts that may be decided from.

    Times of different clocks are not compared: facts that another controller gathered, or this one before it was started again, are too old, and so
    are those from a time that has not come yet.

    :param max_age: seconds that facts of other runs may be old, 0 for none.
    """
    fresh = {str(host["host"]) for host in facts if read_in(run, host) or _is_young(host, run, max_age)}
    return [str(name) for name in names if str(name) not in fresh]


def _is_young(facts: Mapping[str, Any], run: Run, max_age: float) -> bool:
    gathered_at = facts.get("gathered_at")
    if max_age <= 0 or facts.get("gathered_by") != run.clock or isinstance(gathered_at, bool) or not isinstance(gathered_at, (int, float)):
        return False
    return 0 <= run.now - gathered_at <= max_age
