# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The report as text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from .summary import Row, find, goals, ratio, sizes, slope

MIB = 2**20
REFERENCE = "script"
HEADINGS = (
    *("way", "wire MiB", "/ allocated"),
    *("copy s", "min - max", "ratio"),
    *("downtime s", "min - max", "ratio"),
    *("agent s", "ratio", "CPU s", "ratio", "whole s"),
)


def report(moves: Sequence[Row]) -> Iterator[str]:
    """All of it, line by line."""
    for base, overlay in sizes(moves):
        yield from ("", *comparison(moves, overlay, base), "", *critical_section(moves, overlay, base))
    if len({row["overlay_mib"] for row in moves}) > 1:
        yield from ("", *growth(moves))
    yield from ("", *verdicts(moves))


def comparison(moves: Sequence[Row], overlay_mib: int, base_mib: int) -> Iterator[str]:
    """Every way beside the others for one size of overlay and base."""
    rows = [row for row in moves if (row["overlay_mib"], row["base_mib"]) == (overlay_mib, base_mib)]
    reference = find(rows, overlay_mib, base_mib, REFERENCE)
    repeats = max(row["repeats"] for row in rows)
    yield f"overlay {overlay_mib} MiB, base {base_mib} MiB, medians of {repeats}; ratios are to {REFERENCE}"
    yield from table([HEADINGS, *(_line(row, reference) for row in rows)])


def _line(row: Row, reference: Row | None) -> tuple[str, ...]:
    def compared(figure: str, spread: bool = True) -> tuple[str, ...]:
        least, most = row["spread"][figure]
        between = (f"{least:.2f} - {most:.2f}",) if spread else ()
        return (f"{row[figure]:.2f}", *between, _number(ratio(row, reference, figure)))

    wire = (f"{row['wire_bytes'] / MIB:.1f}", f"{row['wire_bytes'] / row['allocated_bytes']:.3f}")
    rest = (*compared("agent_s", spread=False), *compared("cpu_s", spread=False), f"{row['total_s']:.1f}")
    return (row["way"], *wire, *compared("copy_s"), *compared("downtime_s"), *rest)


def critical_section(moves: Sequence[Row], overlay_mib: int, base_mib: int) -> Iterator[str]:
    """Where the time goes while the guest is down, for each way that tells."""
    for row in moves:
        if (row["overlay_mib"], row["base_mib"]) != (overlay_mib, base_mib) or "critical_section" not in row:
            continue
        trips = sum(task["round_trips"] for task in row["critical_section"])
        yield f"{row['way']}: from the request to shut down to the start, {len(row['critical_section'])} tasks, {trips} round trips"
        tasks = [(task["task"], f"{task['down_seconds']:.2f}", f"{task['seconds']:.2f}", str(task["round_trips"])) for task in row["critical_section"]]
        yield from table([("task", "guest down s", "task s", "round trips"), *tasks])
        yield "  " + ", ".join(f"{name} {seconds:.2f} s" for name, seconds in row["phases"].items())


def growth(moves: Sequence[Row]) -> Iterator[str]:
    """By how much the downtime of each way grows with the overlay."""
    bases = sorted({row["base_mib"] for row in moves})
    lines = [(way, *(_number(slope(moves, base, way)) for base in bases)) for way in dict.fromkeys(row["way"] for row in moves)]
    yield "downtime for each GiB of overlay, in seconds"
    yield from table([("way", *(f"base {base} MiB" for base in bases)), *lines])


def verdicts(moves: Sequence[Row]) -> Iterator[str]:
    """The goals."""
    lines = [(goal.what, goal.where, _number(goal.have, 3), goal.verdict + (f" ({goal.note})" if goal.note else "")) for goal in goals(moves)]
    yield from table([("goal", "for", "have", "verdict"), *lines])


def table(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Columns of text, those of numbers to the right; the first row holds the headings."""
    columns = list(zip(*rows))
    numeric = [all(_is_number(cell) for cell in column[1:]) for column in columns]
    widths = [max(map(len, column)) for column in columns]
    for row in rows:
        yield "  " + "  ".join(cell.rjust(width) if right else cell.ljust(width) for cell, width, right in zip(row, widths, numeric)).rstrip()


def _is_number(cell: str) -> bool:
    return cell == "-" or cell.replace(".", "").replace(" - ", "").lstrip("-").isdigit()


def _number(value: float | None, digits: int = 2) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
