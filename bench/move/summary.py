# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Out of single moves: medians with their spread, ratios between ways, growth with the size of the overlay, and whether the goals are met."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

FIGURES = ("wire_bytes", "sent_bytes", "received_bytes", "allocated_bytes", "copy_s", "downtime_s", "agent_s", "cpu_s", "total_s", "busy")
CPU_BOUND = 0.9
"""So busy are the processors of a machine whose processors are what limits a copy."""
FLAT = 0.1
"""Seconds a GiB by which a downtime may grow that does not grow: what the noise of a guest's shutdown makes of nothing."""

Row = Mapping[str, Any]


class Goal(NamedTuple):
    """A goal for one size of overlay and base, or for one size of base."""

    what: str
    where: str
    have: float | None
    limit: float
    note: str = ""

    @property
    def met(self) -> bool | None:
        """None where this run cannot tell."""
        return None if self.have is None else self.have <= self.limit

    @property
    def verdict(self) -> str:
        return {True: "met", False: "NOT MET", None: "not to be told"}[self.met]


def summarize(overlay_mib: int, base_mib: int, way: str, runs: Sequence[Row]) -> dict[str, Any]:
    """One line of the report: medians of all moves of a way with a guest of these sizes, `spread` with the least and the most of each.

    The details are those of the move whose downtime is the median, or next to it.
    """
    medians: dict[str, Any] = {}
    spread = {}
    for figure in FIGURES:
        values = [run[figure] for run in runs if run[figure] is not None]
        digits = None if figure.endswith("_bytes") else 3
        medians[figure] = round(statistics.median(values), digits) if values else None
        spread[figure] = [round(value, digits) for value in (min(values), max(values))] if values else None
    typical = min(runs, key=lambda run: abs(run["downtime_s"] - statistics.median(each["downtime_s"] for each in runs)))
    return {"overlay_mib": overlay_mib, "base_mib": base_mib, "way": way, **medians, "repeats": len(runs), "spread": spread, **typical["details"]}


def is_complete(moves: Iterable[Row], overlay_mib: int, base_mib: int, ways: Iterable[str], repeats: int) -> bool:
    """Whether these sizes were measured in all of the ways, as often as that."""
    return set(ways) <= {row["way"] for row in moves if (row["overlay_mib"], row["base_mib"]) == (overlay_mib, base_mib) and row["repeats"] >= repeats}


def find(moves: Iterable[Row], overlay_mib: int, base_mib: int, way: str) -> Row | None:
    wanted = (overlay_mib, base_mib, way)
    return next((row for row in moves if (row["overlay_mib"], row["base_mib"], row["way"]) == wanted), None)


def ratio(row: Row | None, other: Row | None, figure: str) -> float | None:
    """How many times the other one's figure this one's is."""
    if row is None or other is None or not other[figure]:
        return None
    return row[figure] / other[figure]


def slope(moves: Iterable[Row], base_mib: int, way: str, figure: str = "downtime_s") -> float | None:
    """By how much a figure grows with each GiB of overlay (least squares)."""
    points = [(row["overlay_mib"] / 1024, row[figure]) for row in moves if row["way"] == way and row["base_mib"] == base_mib]
    if len({size for size, _value in points}) < 2:
        return None
    return statistics.linear_regression(*zip(*points)).slope


def sizes(moves: Iterable[Row]) -> list[tuple[int, int]]:
    """Each size of base and overlay, in order."""
    return sorted({(row["base_mib"], row["overlay_mib"]) for row in moves})


def goals(moves: Sequence[Row]) -> list[Goal]:
    """What a move should come to, against what it came to."""
    found = []
    for base, overlay in sizes(moves):
        ways = {way: find(moves, overlay, base, way) for way in ("kvmfleet", "script", "nbdcopy", "nova-old")}
        ours, where = ways["kvmfleet"], f"overlay {overlay} MiB, base {base} MiB"
        if ours is None:
            continue
        found.append(Goal("bytes on the wire <= 1.02 x allocated", where, ours["wire_bytes"] / ours["allocated_bytes"], 1.02))
        found.append(Goal("copy <= 1.0 x scp", where, ratio(ours, ways["script"], "copy_s"), 1.0))
        found.append(_against_the_limit(ours, ways["nbdcopy"], where))
        found.append(Goal("downtime <= 1.0 x script", where, ratio(ours, ways["script"], "downtime_s"), 1.0))
        found.append(Goal("downtime <= 0.5 x nova-old", where, ratio(ours, ways["nova-old"], "downtime_s"), 0.5))
    for base in sorted({row["base_mib"] for row in moves}):
        growth = slope(moves, base, "kvmfleet-precopy")
        note = "needs two sizes of overlay" if growth is None else ""
        found.append(Goal(f"pre-copy downtime grows <= {FLAT} s/GiB", f"base {base} MiB", growth, FLAT, note))
    return found


def _against_the_limit(ours: Row, nbdcopy: Row | None, where: str) -> Goal:
    """The processor is the limit where it is busy; where the copy was too short to see that, nothing can be told either."""
    what, have, busy = "copy <= 1.3 x nbdcopy, CPU not the limit", ratio(ours, nbdcopy, "copy_s"), ours["busy"]
    if have is None or have <= 1.3 or (busy is not None and busy < CPU_BOUND):
        return Goal(what, where, have, 1.3)
    note = f"{have:.2f}, " + ("the copy was too short to tell how busy the CPU was" if busy is None else f"but the CPU is the limit: {busy:.0%} busy")
    return Goal(what, where, None, 1.3, note)
