# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""libvirt's lists of CPUs, such as `0-3,^2,6`."""

from __future__ import annotations

import re
from collections.abc import Iterable

from .errors import KvmfleetError

_HIGHEST = 8191
_PART = re.compile(r"\s*(\^?)([0-9]{1,5})(?:-([0-9]{1,5}))?\s*", re.ASCII)


def parse(text: str, what: str) -> set[int]:
    """The numbers in a list; KvmfleetError `invalid_domain_xml` for what is none, or has a number above 8191."""
    chosen: set[int] = set()
    for part in text.split(",") if text.strip() else ():
        found = _PART.fullmatch(part)
        first, last = (int(found[2]), int(found[3] or found[2])) if found else (0, -1)
        if not first <= last <= _HIGHEST:
            raise KvmfleetError("invalid_domain_xml", f"{what}: {text!r} is not a list of CPUs up to {_HIGHEST} such as 0-3,^2,6.")
        numbers = range(first, last + 1)
        chosen = chosen.difference(numbers) if found and found[1] else chosen.union(numbers)
    return chosen


def listed(numbers: Iterable[int]) -> str:
    """The list of these numbers as libvirt writes it: `0-1,3`."""
    ranges: list[list[int]] = []
    for number in sorted(numbers):
        if ranges and number == ranges[-1][1] + 1:
            ranges[-1][1] = number
        else:
            ranges.append([number, number])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in ranges)
