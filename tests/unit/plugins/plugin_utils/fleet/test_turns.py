# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The turns of the moves of a run, in processes that know nothing of each other."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.fleet import progress
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.fleet.turns import PROGRAMME, Turns


def move(number: int, **more: Any) -> dict[str, Any]:
    ways = {"uuid": f"u-{number}", "instance": f"web{number}", "host": "kvm1", "destination": "kvm2", "order": number}
    return {**ways, "after": [], "canary": False, "ejection": False, **more}


@pytest.fixture
def turns(tmp_path: Path) -> Turns:
    (tmp_path / PROGRAMME).write_text(json.dumps([move(number) for number in range(1, 4)] + [move(4, after=["u-1"])]))
    return Turns(str(tmp_path))


def begin(turns: Turns, number: int, **more: Any) -> str:
    asked: dict[str, Any] = {"parallel": 2, "max_fail": 1, **more}
    return Turns(turns.directory).begin(f"u-{number}", **asked).do


def end(turns: Turns, number: int, state: str, **more: Any) -> None:
    turns.end(f"u-{number}", {"state": state, **more})


def test_no_more_moves_are_under_way_than_were_asked_for(turns: Turns) -> None:
    assert [begin(turns, number) for number in (1, 2, 3)] == ["begin", "begin", "wait"]
    end(turns, 1, progress.MOVED)
    assert begin(turns, 3) == "begin"


def test_a_move_whose_window_has_closed_meanwhile_is_left_for_another_time(tmp_path: Path) -> None:
    (tmp_path / PROGRAMME).write_text(json.dumps([move(1, until=time.time() - 1), move(2, until=time.time() + 600)]))
    turns = Turns(str(tmp_path))
    assert [begin(turns, number) for number in (1, 2)] == ["skip", "begin"]


def test_a_move_waits_for_those_before_it(turns: Turns) -> None:
    assert begin(turns, 4) == "wait"
    begin(turns, 1)
    assert begin(turns, 4) == "wait"
    end(turns, 1, progress.MOVED)
    assert begin(turns, 4) == "begin"


def test_after_max_fail_failures_nothing_begins(turns: Turns) -> None:
    begin(turns, 1)
    end(turns, 1, progress.UNDONE)
    assert [begin(turns, 2, max_fail=2), begin(turns, 3, max_fail=1)] == ["begin", "skip"]


def test_one_that_ansible_lost_holds_nobody_up_and_counts_as_failed(turns: Turns) -> None:
    begin(turns, 1, parallel=1)
    assert begin(turns, 2, parallel=1) == "wait"
    assert begin(turns, 2, parallel=1, lost=["u-1"]) == "skip"
    assert begin(turns, 3, parallel=1, lost=["u-1"], max_fail=0) == "begin"


def test_the_line_of_a_move(turns: Turns) -> None:
    end(turns, 1, progress.MOVED, downtime_seconds=2.94, bytes=5 * 2**20)
    begin(turns, 2)
    assert turns.line("u-1") == "[1/4] web1 kvm1 -> kvm2 moved, down 2.9 s, 5 MiB (1 running, 0 waiting, 0 failed)"
    assert turns.line("u-2") == "[2/4] web2 kvm1 -> kvm2 begins (1 running, 0 waiting, 0 failed)"


def test_in_the_end_something_is_told_of_each(turns: Turns) -> None:
    end(turns, 1, progress.MOVED)
    begin(turns, 2)
    begin(turns, 3, parallel=1)
    assert {uuid: result["state"] for uuid, result in turns.told().items()} == {"u-1": "moved", "u-2": "open", "u-3": "skipped", "u-4": "skipped"}
