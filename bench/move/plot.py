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

from bench.move.summary import Row


def plot(moves: list[Row], target: Path) -> None:
    """A diagram for each size of base: lines, or bars where there is one size of overlay."""
    mpl.use("svg")
    mpl.rcParams.update({"svg.hashsalt": "kvmfleet", "svg.fonttype": "none", "font.size": 9})
    bases, overlays = (sorted({row[name] for row in moves}) for name in ("base_mib", "overlay_mib"))
    ways = list(dict.fromkeys(row["way"] for row in moves))
    figure, axes = pyplot.subplots(1, len(bases), figsize=(5.5 * len(bases), 4.2), sharey=True, squeeze=False)
    for axis, base in zip(axes[0], bases):
        for position, way in enumerate(ways):
            rows = sorted((row for row in moves if (row["way"], row["base_mib"]) == (way, base)), key=lambda row: row["overlay_mib"])
            values = [row["downtime_s"] for row in rows]
            away = list(zip(*((value - row["spread"]["downtime_s"][0], row["spread"]["downtime_s"][1] - value) for value, row in zip(values, rows))))
            if len(overlays) == 1:
                axis.bar([position], values, yerr=away, capsize=3, label=way)
            else:
                axis.errorbar([row["overlay_mib"] for row in rows], values, yerr=away, marker="o", capsize=3, label=way, linewidth=2 if "kvmfleet" in way else 1)
        axis.set_title(f"base of {base} MiB")
        axis.set_ylim(bottom=0)
        axis.grid(axis="y", alpha=0.3)
        if len(overlays) == 1:
            axis.set_xticks(range(len(ways)), ways, rotation=40, ha="right")
            axis.set_xlabel(f"overlay of {overlays[0]} MiB")
        else:
            axis.set_xlabel("overlay, MiB")
    axes[0][0].set_ylabel("downtime, seconds (median, least, most)")
    if len(overlays) > 1:
        axes[0][0].legend()
    figure.tight_layout()
    figure.savefig(target, metadata={"Date": None})


if __name__ == "__main__":
    plot(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))["moves"], Path(sys.argv[2]))
