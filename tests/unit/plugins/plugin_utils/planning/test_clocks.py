# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How long something has been so, by the clock of the host that noted it."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.planning.recovery import decide
from ansible_collections.kvmfleet.compute.tests.unit.plugins.plugin_utils.planning.test_lost_host import record

T = 1_800_000_000.0


def finished(source: tuple[float, float], destination: tuple[float, float] | None) -> dict[str, Any]:
    """The decision on an operation; of each host its clock and when it noted the end by it."""
    hosts = []
    for name, role, (now, at) in (("kvm1", "source", source), *((("kvm2", "destination", destination),) if destination else ())):
        hosts.append({"host": name, "up": True, "now": now, "domains": [], "migrations": [record(role, "finished", updated_at=at)]})
    (decision,) = decide(hosts, "recover")
    return decision


@pytest.mark.parametrize("skew", [-3660.0, 0.0, 3660.0, 1e8])
def test_the_window_is_measured_by_the_clock_of_the_host_that_noted_the_end(skew: float) -> None:
    """Finished just now, whatever the clocks of the hosts say and however far they are from each other and from ours."""
    decision = finished((T + skew, T + skew - 3.0), (T, T - 4.0))
    assert (decision["age"], decision["clock"]) == (3.0, None)


def test_the_shorter_time_counts_where_a_clock_was_set_since_and_it_is_said() -> None:
    decision = finished((T, T - 3665.0), (T, T - 4.0))
    assert decision["age"] == 4.0
    assert decision["clock"] == "a clock was set since it was finished: 3665 s ago by that of kvm1, 4 s ago by that of kvm2; the shorter time counts"


def test_a_clock_that_was_set_back_makes_nothing_old_and_is_said() -> None:
    decision = finished((T, T - 4000.0), (T - 3600.0, T - 3.0))
    assert decision["age"] < 0
    assert decision["clock"] == "the clock of kvm2 was set back: its journal has a time that comes in 3597 s"


def test_without_the_time_of_a_host_there_is_no_age() -> None:
    hosts = [{"host": "kvm1", "up": True, "now": None, "domains": [], "migrations": [record("source", "finished", updated_at=T)]}]
    assert decide(hosts, "recover")[0]["age"] is None
