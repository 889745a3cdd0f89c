# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A busy host is waited for as long as its moves get on; the clock is that of the test."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from ansible_collections.kvmfleet.compute.plugins.action import migration

FREE = {"changed": True}


class Clock:
    """Time passes while somebody sleeps."""

    now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(migration, "time", clock)
    monkeypatch.setattr(migration, "_say", lambda line: None)
    return clock


def busy(seen: object, moving: bool = False) -> dict[str, Any]:
    return {"failed": True, "error_code": "busy", "msg": "2 moves out in hand.", "details": {"seen": seen, "moving": moving}}


def once_free(ask: Any, **args: Any) -> dict[str, Any]:
    action = object.__new__(migration.ActionModule)
    action._task = SimpleNamespace(args=args)
    return action._once_free(ask)


def test_nobody_waits_who_does_not_want_to(clock: Clock) -> None:
    assert once_free(lambda: busy(1))["error_code"] == "busy"
    assert once_free(lambda: FREE, slot_timeout=60) == FREE
    assert clock.now == 1000


def test_moves_that_get_on_are_waited_for_however_long_that_takes(clock: Clock) -> None:
    assert once_free(lambda: FREE if clock.now > 9000 else busy(clock.now // 50), slot_timeout=60) == FREE
    assert once_free(lambda: FREE if clock.now > 19000 else busy(1, moving=True), slot_timeout=60) == FREE


def test_moves_that_do_not_get_on_are_not(clock: Clock) -> None:
    told = once_free(lambda: busy(1 if clock.now > 1500 else clock.now // 50), slot_timeout=60)
    assert (told["error_code"], 1555 < clock.now < 1580) == ("slots_stalled", True)
    assert told["msg"].startswith("2 moves out in hand. None of them has got on for 60 s. Nothing was begun;")


def test_the_source_can_be_told_in_between_and_the_limit_is_that_of_the_whole_wait(clock: Clock) -> None:
    told, rounds = once_free(lambda: busy(1), slot_timeout=60, slot_patience=15), 1
    while told["error_code"] == "busy":
        told, rounds = once_free(lambda: busy(1), slot_timeout=60, slot_patience=15, slot=told["slot"]), rounds + 1
    assert (told["error_code"], rounds, 1060 <= clock.now < 1070) == ("slots_stalled", 4, True)
