# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The report on moves: `python -m bench.move`, on a lab that is up; script/bench brings it up, and makes the plot."""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lab.errors import LabError

from bench.move.pair import Pair
from bench.move.report import report
from bench.move.subject import Subject, WrongData, room_needed
from bench.move.summary import is_complete, summarize
from bench.move.ways import WAYS, Playing, Result, move, playing

OVERLAYS, BASES, REPEATS = (64, 1024, 4096), (256, 1024), 5
QUICK_OVERLAYS, QUICK_BASES, QUICK_REPEATS = (64,), (256,), 1
GIB = 2**30


def main() -> int:
    given = _arguments()
    pair = Pair()
    free, needed = shutil.disk_usage(pair.lab.directory).free, room_needed(given.overlay, given.base)
    print(
        f"Python {platform.python_version()}, {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}, guests under {'KVM' if pair.lab.kvm else 'TCG'}; "
        f"{pair.lab.directory}: {free / GIB:.1f} GiB free, up to {needed / GIB:.1f} GiB needed"
    )
    if free < needed:
        print("script/bench: there is not enough room; choose smaller sizes with --overlay and --base, or another KVMFLEET_LAB_DIR", file=sys.stderr)
        return 1
    moves: list[dict[str, Any]] = _known(given) if given.carry_on else []
    with playing() as playbooks:
        for base in given.base:
            for overlay in given.overlay:
                if is_complete(moves, overlay, base, given.way, given.repeats):
                    continue
                moves += _compare(Subject(pair, overlay, base), playbooks, given.way, given.repeats)
                if given.json:
                    given.json.write_text(json.dumps({"moves": moves}, indent=2) + "\n", encoding="utf-8")
    print(*report(moves), sep="\n")
    return 0


def _known(given: argparse.Namespace) -> list[dict[str, Any]]:
    """What the file has. A size that it has in part is measured anew: ways are compared within one run only."""
    rows = json.loads(given.json.read_text(encoding="utf-8"))["moves"] if given.json.exists() else []
    return [row for row in rows if is_complete(rows, row["overlay_mib"], row["base_mib"], given.way, given.repeats)]


def _compare(subject: Subject, playbooks: Playing, ways: Sequence[str], repeats: int) -> list[dict[str, Any]]:
    """Each way in turn, again and again, so that what else the machine does falls upon all of them."""
    runs: dict[str, list[dict[str, Any]]] = {way: [] for way in ways}
    try:
        subject.make()
        subject.restore()
        playbooks.warm_up()
        for repeat in range(repeats):
            for way in ways[repeat % len(ways) :] + ways[: repeat % len(ways)]:
                runs[way].append(run := vars(_move(subject, way, playbooks)))
                print(
                    f"overlay {subject.overlay_mib} MiB, base {subject.base_mib} MiB, {repeat + 1} of {repeats}, {way}: copy {run['copy_s']:.2f} s, "
                    f"downtime {run['downtime_s']:.2f} s, agent after {run['agent_s']:.2f} s, CPU {run['cpu_s']:.2f} s, data right",
                    flush=True,
                )
    finally:
        subject.remove()
    return [summarize(subject.overlay_mib, subject.base_mib, way, runs[way]) for way in ways]


def _move(subject: Subject, way: str, playbooks: Playing) -> Result:
    """A move that fails is said and done once more, since hours may lie behind it; wrong data ends everything."""
    try:
        return move(subject, way, playbooks)
    except WrongData:
        raise
    except (AssertionError, LabError, RuntimeError) as error:
        print(f"{way} failed and is tried once more: {error}", file=sys.stderr)
        return move(subject, way, playbooks)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="script/bench move")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures")
    parser.add_argument("--continue", dest="carry_on", action="store_true", help="leave out the sizes that FILE has already, and add the others to it")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_REPEATS} move a way of a guest with {QUICK_OVERLAYS[0]} MiB, for a first look")
    parser.add_argument("--repeats", type=int, metavar="N", help=f"moves in each way, of which the median counts ({REPEATS})")
    for name, default in (("overlay", OVERLAYS), ("base", BASES)):
        parser.add_argument(f"--{name}", type=int, nargs="+", metavar="MIB", help=f"sizes of the {name} ({', '.join(map(str, default))})")
    parser.add_argument("--way", nargs="+", choices=WAYS, default=list(WAYS), help="only these")
    given = parser.parse_args()
    given.overlay = given.overlay or list(QUICK_OVERLAYS if given.quick else OVERLAYS)
    given.base = given.base or list(QUICK_BASES if given.quick else BASES)
    given.repeats = given.repeats or (QUICK_REPEATS if given.quick else REPEATS)
    if given.carry_on and not given.json:
        parser.error("--continue needs --json FILE")
    if min(*given.overlay, *given.base, 16) < 16 or given.repeats < 1:
        parser.error("sizes are 16 MiB at least, and repeats 1")
    return given


if __name__ == "__main__":
    sys.exit(main())
