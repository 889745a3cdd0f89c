# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The downtime of each way over the size of the overlay, as an SVG: `python -m bench.move.plot REPORT.json PLOT.svg`, where matplotlib is."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import matplotlib as mpl
from matplotlib import pyplot
from matplotlib.axes import Axes

from bench.move.summary import Row


def plot(moves: list[Row], target: Path) -> None:
    """A diagram for each size of base."""
    mpl.use("svg")
    mpl.rcParams.update({"svg.hashsalt": "kvmfleet", "svg.fonttype": "none", "font.size": 9})
    bases, overlays = (sorted({row[name] for row in moves}) for name in ("base_mib", "overlay_mib"))
    figure, axes = pyplot.subplots(1, len(bases), figsize=(5.5 * len(bases), 4.2), sharey=True, squeeze=False)
    for axis, base in zip(axes[0], bases):
        shown = [row for row in moves if row["base_mib"] == base]
        (_lines if len(overlays) > 1 else _bars)(axis, shown)
        axis.set_title(f"base of {base} MiB")
        axis.set_ylim(bottom=0)
        axis.grid(axis="y", alpha=0.3)
    axes[0][0].set_ylabel("downtime, seconds (median, least, most)")
    figure.tight_layout()
    figure.savefig(target, metadata={"Date": None})


def _lines(axis: Axes, rows: list[Row]) -> None:
    for way in dict.fromkeys(row["way"] for row in rows):
        points = sorted((row for row in rows if row["way"] == way), key=lambda row: row["overlay_mib"])
        style = {"marker": "o", "capsize": 3, "linewidth": 2.5 if way.startswith("kvmfleet") else 1}
        axis.errorbar([row["overlay_mib"] for row in points], [row["downtime_s"] for row in points], yerr=_spread(points), label=way, **style)
    axis.set_xlabel("overlay, MiB")
    axis.legend()


def _bars(axis: Axes, rows: list[Row]) -> None:
    colours = ["tab:blue" if row["way"].startswith("kvmfleet") else "silver" for row in rows]
    axis.bar(range(len(rows)), [row["downtime_s"] for row in rows], yerr=_spread(rows), capsize=3, color=colours)
    axis.set_xticks(range(len(rows)), [row["way"] for row in rows], rotation=40, ha="right")
    axis.set_xlabel(f"overlay of {rows[0]['overlay_mib']} MiB")


def _spread(rows: list[Row]) -> list[tuple[float, ...]]:
    """How far the least and the most are from the median."""
    ends = [(row["spread"]["downtime_s"], row["downtime_s"]) for row in rows]
    return list(zip(*((median - least, most - median) for (least, most), median in ends)))


if __name__ == "__main__":
    plot(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))["moves"], Path(sys.argv[2]))
