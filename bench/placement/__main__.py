# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The report on placement: `python -m bench.placement decisions|plan`; script/bench makes the environments that each of them needs."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
from pathlib import Path
from typing import Any

HOSTS = (100, 1000, 10000)
DECISIONS = 20
QUICK_HOSTS, QUICK_DECISIONS = (100, 1000), 5


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench.placement")
    parser.add_argument("part", choices=("decisions", "plan"))
    parser.add_argument("--json", type=Path, required=True, help="the report; a part adds itself to what is there")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_DECISIONS} decisions and up to {QUICK_HOSTS[-1]} hosts, for a first look")
    given = parser.parse_args()
    report = json.loads(given.json.read_text(encoding="utf-8")) if given.json.exists() else {}
    report |= {"runs": _decisions(given.quick)} if given.part == "decisions" else {"plan": _plan(given.quick)}
    given.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


def _decisions(quick: bool) -> list[dict[str, Any]]:
    from bench.placement import decisions, nova_scheduler

    nova_scheduler.start()
    count = QUICK_DECISIONS if quick else DECISIONS
    print(f"Python {platform.python_version()}, {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}; {count} decisions each, in turn, processor time")
    columns = f"{'Nova':>9} {'ratio (min/median/max)':>24}"
    print(f"{'hosts':>6} {'profile':8} {'filter + weigh: ours':>21} {columns}   {'from facts: ours':>16} {columns}")
    runs = []
    for hosts in QUICK_HOSTS if quick else HOSTS:
        for profile in decisions.PROFILES:
            run = decisions.compare(hosts, profile, count)
            runs.append(run)
            print(
                f"{hosts:>6} {profile:8} {_ms(run['ours_s']):>21} {_ms(run['nova_s']):>9} {_spread(run['ratios']):>24}   "
                f"{_ms(run['whole_ours_s']):>16} {_ms(run['whole_nova_s']):>9} {_spread(run['whole_ratios']):>24}"
            )
            sys.stdout.flush()
    for profile in decisions.PROFILES:
        least, most = (next(run for run in runs if run["profile"] == profile and run["hosts"] == hosts) for hosts in (runs[0]["hosts"], runs[-1]["hosts"]))
        growth = {name: (most[name] - least[name]) / (most["hosts"] - least["hosts"]) * 1e6 for name in ("ours_s", "nova_s", "whole_ours_s", "whole_nova_s")}
        print(
            f"each host more, {profile}: filter + weigh {growth['ours_s']:.1f} us, Nova {growth['nova_s']:.1f} us; "
            f"from facts {growth['whole_ours_s']:.1f} us, Nova {growth['whole_nova_s']:.1f} us"
        )
    return runs


def _plan(quick: bool) -> list[dict[str, Any]]:
    from bench.placement import playbook

    plans = []
    for hosts in QUICK_HOSTS[1:] if quick else HOSTS[1:]:
        with tempfile.TemporaryDirectory() as work:
            plans.append(playbook.plan(hosts, Path(work)))
        print(f"playbook plan, {hosts} hosts, cached facts: {plans[-1]['playbook_s']:.1f} s, of which the decision {plans[-1]['decision_s']:.2f} s")
        sys.stdout.flush()
    return plans


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.1f} ms"


def _spread(ratios: dict[str, float]) -> str:
    return f"{ratios['min']:.1f} / {ratios['median']:.1f} / {ratios['max']:.1f}"


if __name__ == "__main__":
    main()
