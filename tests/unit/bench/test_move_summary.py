# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Medians, ratios, growth and goals of the report on moves."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.kvmfleet.compute.bench.move import summary
from ansible_collections.kvmfleet.compute.bench.move.report import report, table

MIB = 2**20


def run(downtime_s: float, *, copy_s: float = 1.0, wire_bytes: int = 100 * MIB, busy: float | None = 0.5, **details: Any) -> dict[str, Any]:
    figures = {"sent_bytes": wire_bytes, "received_bytes": 0, "allocated_bytes": 100 * MIB, "agent_s": downtime_s + 3, "cpu_s": 2.0, "total_s": 20.0}
    return {**figures, "downtime_s": downtime_s, "copy_s": copy_s, "wire_bytes": wire_bytes, "busy": busy, "details": details}


def row(way: str, downtime_s: float, overlay_mib: int = 64, base_mib: int = 256, **figures: Any) -> dict[str, Any]:
    return summary.summarize(overlay_mib, base_mib, way, [run(downtime_s, **figures)])


def test_the_median_counts_and_the_spread_is_told() -> None:
    runs = [run(3.0, tasks=3), run(1.0, tasks=1), run(2.0004, tasks=2)]
    found = summary.summarize(64, 256, "script", runs)
    assert (found["downtime_s"], found["repeats"], found["spread"]["downtime_s"]) == (2.0, 3, [1.0, 3.0])
    assert found["tasks"] == 2, "details are those of the move with the median"
    assert isinstance(found["wire_bytes"], int)


def test_of_an_even_number_the_median_is_between_and_the_details_are_those_of_a_neighbour() -> None:
    found = summary.summarize(64, 256, "script", [run(1.0, tasks=1), run(2.0, tasks=2)])
    assert found["downtime_s"] == 1.5
    assert found["tasks"] in (1, 2)


def test_a_figure_that_no_move_could_tell_is_not_told() -> None:
    found = summary.summarize(64, 256, "script", [run(1.0, busy=None), run(1.0, busy=None)])
    assert found["busy"] is None
    assert found["spread"]["busy"] is None
    assert summary.summarize(64, 256, "script", [run(1.0, busy=None), run(1.0, busy=0.4)])["busy"] == 0.4


def test_a_ratio_needs_both() -> None:
    ours, theirs = row("kvmfleet", 1.0), row("script", 4.0)
    assert summary.ratio(ours, theirs, "downtime_s") == 0.25
    assert summary.ratio(ours, None, "downtime_s") is None
    assert summary.ratio(None, theirs, "downtime_s") is None


def test_sizes_are_complete_when_every_way_was_measured_often_enough() -> None:
    runs = [run(1.0), run(2.0)]
    moves = [summary.summarize(64, 256, way, runs) for way in ("kvmfleet", "script")]
    assert summary.is_complete(moves, 64, 256, ["script", "kvmfleet"], 2)
    assert not summary.is_complete(moves, 64, 256, ["script", "kvmfleet"], 3)
    assert not summary.is_complete(moves, 64, 256, ["script", "rsync"], 2)
    assert not summary.is_complete(moves, 1024, 256, ["script"], 2)


def test_growth_is_that_of_each_gib_of_overlay() -> None:
    moves = [row("script", 2 + size / 1024 * 3, size) for size in (64, 1024, 4096)] + [row("script", 9.0, 64, 1024)]
    assert summary.slope(moves, 256, "script") == pytest.approx(3, abs=0.001)
    assert summary.slope(moves, 1024, "script") is None
    assert summary.slope(moves, 256, "kvmfleet") is None


def verdicts(moves: list[dict[str, Any]]) -> dict[str, bool | None]:
    return {goal.what.partition(" ")[0] + goal.what.rpartition(" ")[2]: goal.met for goal in summary.goals(moves)}


def test_goals_are_met_at_the_limit_and_not_beyond() -> None:
    others = [row("script", 2.0), row("nova-old", 4.0), row("nbdcopy", 2.0)]
    assert verdicts([row("kvmfleet", 2.0, wire_bytes=102 * MIB), *others]) == {
        "bytesallocated": True,
        "copyscp": True,
        "copylimit": True,
        "downtimescript": True,
        "downtimenova-old": True,
        "pre-copys/GiB": None,
    }
    beyond = verdicts([row("kvmfleet", 2.01, wire_bytes=103 * MIB, copy_s=1.31), *others])
    assert set(beyond.values()) == {False, None}


@pytest.mark.parametrize(
    ("busy", "met", "note"), [(0.5, False, ""), (0.95, None, "but the CPU is the limit: 95% busy"), (None, None, "too short to tell how busy the CPU was")]
)
def test_a_copy_that_the_cpu_limits_is_not_measured_against_one_without_encryption(busy: float | None, met: bool | None, note: str) -> None:
    (goal,) = (goal for goal in summary.goals([row("kvmfleet", 1.0, copy_s=1.4, busy=busy), row("nbdcopy", 1.0)]) if "nbdcopy" in goal.what)
    assert goal.met is met
    assert note in goal.note


@pytest.mark.parametrize(("growth", "met"), [(0.0, True), (-0.2, True), (0.5, False)])
def test_the_downtime_with_precopy_does_not_grow(growth: float, met: bool) -> None:
    moves = [row("kvmfleet-precopy", 2 + growth * size / 1024, size) for size in (64, 4096)]
    (goal,) = summary.goals(moves)
    assert goal.met is met


def test_goals_of_ways_that_were_left_out_are_not_told() -> None:
    assert summary.goals([row("script", 1.0)])[0].met is None
    assert {goal.what for goal in summary.goals([row("kvmfleet", 1.0)]) if goal.met is not None} == {"bytes on the wire <= 1.02 x allocated"}


def test_numbers_stand_to_the_right_under_their_heading() -> None:
    rows = [("way", "copy s", "min - max", "verdict"), ("a", "1.00", "0.90 - 1.10", "met"), ("bcd", "-", "10.00 - 12.00", "not to be told")]
    assert list(table(rows)) == [
        "  way  copy s      min - max  verdict",
        "  a      1.00    0.90 - 1.10  met",
        "  bcd       -  10.00 - 12.00  not to be told",
    ]


def test_the_report_tells_every_way_its_ratio_to_the_script_and_the_critical_section() -> None:
    section = [{"task": "Move | Stop", "seconds": 0.9, "down_seconds": 0.5, "round_trips": 1}]
    text = "\n".join(report([row("kvmfleet", 1.0, critical_section=section, phases={"copy": 0.25}), row("script", 2.0)]))
    lines = text.splitlines()
    assert "overlay 64 MiB, base 256 MiB, medians of 1; ratios are to script" in lines
    ours = next(line.split() for line in lines if line.startswith("  kvmfleet "))
    assert ours[1:3] == ["100.0", "1.000"]
    assert "0.50" in ours
    assert "kvmfleet: from the request to shut down to the start, 1 tasks, 1 round trips" in lines
    assert "  copy 0.25 s" in lines
