# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The same decisions by both schedulers, in turn, in one process.

Time is processor time of the process: both are single-threaded and compute only, and other work on the machine does not count for or against
either. `decide` is filter + weigh over host states that are ready, `whole` starts from the facts: our list of dicts, Nova's database objects.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.context import Context
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.fleet_state import FleetState
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.options import Options
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.request import Request
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.select import decide, select_destinations
from bench.placement import nova_scheduler
from bench.placement.fleet import PROFILES, fleet, request

SEED = 20130404


class Times(NamedTuple):
    """Seconds of every decision by one scheduler."""

    decide: list[float]
    whole: list[float]


def compare(count: int, profile: str, decisions: int) -> dict[str, Any]:
    """One line of the report: `decisions` requests on a fleet of `count` hosts; the answers must agree."""
    filters, weighers = PROFILES[profile]
    hosts = fleet(count, SEED, roomy=True)
    options = {"enabled_filters": list(filters), "weighers": dict(weighers)}
    nova = nova_scheduler.Manager(filters, weighers)
    nova.load(hosts)
    reading, states = _timed(nova.states)
    read = Options.build(options)
    prepared = FleetState.read(hosts, read)
    ours, theirs, fitting = Times([], []), Times([], []), []
    for seed in range(decisions):
        asked = request(hosts, seed, roomy=True)
        spec = nova_scheduler.request_spec(asked, hosts)
        seconds, weighed = _timed(lambda spec=spec: nova.decide(states, spec))
        theirs.decide.append(seconds)
        theirs.whole.append(reading + seconds)
        ours.decide.append(_timed(lambda asked=asked: decide(Context.over(prepared, Request.build(asked), read)))[0])
        seconds, answer = _timed(lambda asked=asked: select_destinations(hosts, asked, options))
        ours.whole.append(seconds)
        if [item.obj.host for item in weighed] != [item["host"] for item in answer["ranked"]]:
            raise RuntimeError(f"the schedulers disagree: {count} hosts, profile {profile}, request {seed}")
        fitting.append(len(weighed))
    return {
        "hosts": count,
        "profile": profile,
        **_summary("", ours.decide, theirs.decide),
        **_summary("whole_", ours.whole, theirs.whole),
        "decisions": decisions,
        "fitting": statistics.median(fitting),
    }


def _timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """The collector does not look through what the other scheduler keeps."""
    gc.collect()
    gc.freeze()
    started = time.process_time()
    result = work()
    seconds = time.process_time() - started
    gc.unfreeze()
    return seconds, result


def _summary(prefix: str, ours: Sequence[float], nova: Sequence[float]) -> dict[str, Any]:
    ratios = [theirs / own for own, theirs in zip(ours, nova, strict=True)]
    return {
        f"{prefix}ours_s": statistics.median(ours),
        f"{prefix}nova_s": statistics.median(nova),
        f"{prefix}ratio": statistics.median(nova) / statistics.median(ours),
        f"{prefix}ratios": {"min": min(ratios), "median": statistics.median(ratios), "max": max(ratios)},
    }
