# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Windows of maintenance: `Sat 02:00-05:00`, `Mon-Fri 22:00-04:00`, `02:00-05:00`, always in UTC. One that ends before it begins ends on the next day."""

from __future__ import annotations

import re
import time
from typing import NamedTuple

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.validation import ValidationError, sequence

_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_FORM = re.compile(r"(?:(?P<days>[A-Za-z]{3}(?:[-,][A-Za-z]{3})*) +)?(?P<begin>[0-9]{2}:[0-9]{2})-(?P<end>[0-9]{2}:[0-9]{2})")
_EXPECTED = "a window such as 'Sat 02:00-05:00', 'Mon-Fri 22:00-04:00' or '02:00-05:00' (UTC)"
_DAY = 86400
_EPOCH_DAY = 3
"""1 January 1970 was a Thursday."""


class Window(NamedTuple):
    """`days` are those on which it begins, 0 for Monday; `begin` and `length` are seconds."""

    text: str
    days: tuple[int, ...]
    begin: int
    length: int

    def opens(self, now: float) -> float:
        """When it is open next: `now` where it is open now."""
        today = int(now // _DAY)
        for day in range(today - 1, today + 8):
            begin = day * _DAY + self.begin
            if (day + _EPOCH_DAY) % 7 in self.days and now < begin + self.length:
                return max(float(begin), now)
        raise AssertionError("a window opens within a week")

    def closes(self, now: float) -> float | None:
        """When it is open no more, None where it is not open now."""
        today = int(now // _DAY)
        begins = (day * _DAY + self.begin for day in (today - 1, today) if (day + _EPOCH_DAY) % 7 in self.days)
        return max((float(begin + self.length) for begin in begins if begin <= now < begin + self.length), default=None)


def read(field: str, value: object) -> tuple[Window, ...]:
    """One window or a list of them.

    :raises ValidationError: for what is none.
    """
    if value in (None, ""):
        return ()
    texts = [value] if isinstance(value, str) else sequence(field, value)
    return tuple(_window(field, text) for text in texts)


def opens(windows: tuple[Window, ...], now: float) -> float:
    """When the first of them is open; `now` where one is, or where there is none at all."""
    return min((window.opens(now) for window in windows), default=now)


def closes(windows: tuple[Window, ...], now: float) -> float | None:
    """When the last of those that are open now is open no more; None where there are none."""
    return max((end for window in windows if (end := window.closes(now)) is not None), default=None)


def told(moment: float) -> str:
    """`Sat 2026-12-05 02:00 UTC`."""
    return time.strftime("%a %Y-%m-%d %H:%M UTC", time.gmtime(moment))


def _window(field: str, text: object) -> Window:
    found = _FORM.fullmatch(text.strip()) if isinstance(text, str) else None
    if found is None:
        raise ValidationError(field, text, _EXPECTED)
    begin, end = (_seconds(field, text, found[name]) for name in ("begin", "end"))
    return Window(str(text).strip(), _days(field, text, found["days"]), begin, (end - begin) % _DAY or _DAY)


def _seconds(field: str, text: object, clock: str) -> int:
    hours, minutes = map(int, clock.split(":"))
    if hours > 24 or minutes > 59 or (hours == 24 and minutes):
        raise ValidationError(field, text, _EXPECTED)
    return (hours * 60 + minutes) * 60


def _days(field: str, text: object, given: str | None) -> tuple[int, ...]:
    if given is None:
        return tuple(range(7))
    found: set[int] = set()
    for part in given.split(","):
        ends = [day.capitalize() for day in part.split("-")]
        if len(ends) > 2 or not set(ends) <= set(_DAYS):
            raise ValidationError(field, text, _EXPECTED)
        first, last = _DAYS.index(ends[0]), _DAYS.index(ends[-1])
        found |= {day % 7 for day in range(first, last + 1 if last >= first else last + 8)}
    return tuple(sorted(found))
