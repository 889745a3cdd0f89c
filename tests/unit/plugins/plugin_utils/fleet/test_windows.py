# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import calendar

import pytest

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.fleet import windows
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.validation import ValidationError


def at(text: str) -> int:
    """Seconds since the epoch; 2026-11-30 is a Monday."""
    day, clock = text.split()
    year, month, number = map(int, day.split("-"))
    hour, minute = map(int, clock.split(":"))
    return calendar.timegm((year, month, number, hour, minute, 0))


@pytest.mark.parametrize(
    ("window", "now", "opens"),
    [
        ("Sat 02:00-05:00", "2026-11-30 12:00", "2026-12-05 02:00"),
        ("Sat 02:00-05:00", "2026-12-05 04:59", "2026-12-05 04:59"),
        ("Sat 02:00-05:00", "2026-12-05 05:00", "2026-12-12 02:00"),
        ("02:00-05:00", "2026-11-30 12:00", "2026-12-01 02:00"),
        ("22:00-04:00", "2026-12-01 03:00", "2026-12-01 03:00"),
        ("Fri 22:00-04:00", "2026-12-05 03:00", "2026-12-05 03:00"),
        ("Fri 22:00-04:00", "2026-12-06 03:00", "2026-12-11 22:00"),
        ("Fri-Mon 10:00-11:00", "2026-12-01 00:00", "2026-12-04 10:00"),
        ("Mon,Wed 10:00-11:00", "2026-11-30 12:00", "2026-12-02 10:00"),
        ("Sun 00:00-24:00", "2026-12-06 23:00", "2026-12-06 23:00"),
        (["Sat 02:00-05:00", "tue 01:00-02:00"], "2026-11-30 12:00", "2026-12-01 01:00"),
    ],
)
def test_when_a_window_is_open_next(window: object, now: str, opens: str) -> None:
    assert windows.opens(windows.read("window", window), at(now)) == at(opens)


@pytest.mark.parametrize(
    ("window", "now", "closes"),
    [
        ("Sat 02:00-05:00", "2026-12-05 02:00", "2026-12-05 05:00"),
        ("Fri 22:00-04:00", "2026-12-05 03:00", "2026-12-05 04:00"),
        (["Sat 02:00-05:00", "Sat 04:00-06:00"], "2026-12-05 04:30", "2026-12-05 06:00"),
        ("00:00-24:00", "2026-12-05 04:30", "2026-12-06 00:00"),
    ],
)
def test_when_a_window_that_is_open_closes(window: object, now: str, closes: str) -> None:
    assert windows.closes(windows.read("window", window), at(now)) == at(closes)


def test_a_window_that_is_not_open_does_not_close() -> None:
    assert windows.closes(windows.read("window", "Sat 02:00-05:00"), at("2026-12-05 05:00")) is None
    assert windows.closes((), 5.0) is None


def test_no_window_is_always_open_and_people_read_utc() -> None:
    assert windows.opens(windows.read("window", None), 5.0) == 5.0
    assert windows.told(at("2026-12-05 02:00")) == "Sat 2026-12-05 02:00 UTC"


@pytest.mark.parametrize(
    "window", ["Sat", "25:00-26:00", "Sat 2:00-5:00", "Xyz 02:00-05:00", "Mon-Wed-Fri 02:00-05:00", "02:00-05:61", ["02:00"], [3], "24:30-25:00"]
)
def test_what_is_no_window_is_refused(window: object) -> None:
    with pytest.raises(ValidationError, match="window: expected a window such as"):
        windows.read("window", window)
