# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The capacity rules that the scheduler's filters and the claim at the destination share.

Formulas are those of Nova's RamFilter, CoreFilter and DiskFilter (openstack/nova 18.3.0); reserved capacity is part of *used*
and therefore not multiplied by the ratio.
"""

from __future__ import annotations

from typing import NamedTuple


class Room(NamedTuple):
    """Whether a request fits, and the numbers to say so."""

    fits: bool
    need: float
    have: float
    limit: float


def room(total: float, used: float, ratio: float, need: float) -> Room:
    """`total * ratio - used >= need`, and a request never exceeds the physical total (no overcommit against itself).

    :param total: physical capacity; :param used: promised already, reserved included; :param ratio: allocation ratio;
    :param need: requested amount, in the same unit. `have` is what is left before the request, `limit` the ceiling `total * ratio`.
    """
    # Rounded, so that an exact fit under a ratio such as 1.15 is not lost to binary fractions.
    limit = round(total * ratio, 6)
    have = round(limit - used, 6)
    return Room(fits=have >= need and total >= need, need=need, have=have, limit=limit)


def disk_need_mb(disk_gb: int, ephemeral_gb: int, swap_mb: int) -> int:
    """MiB that a flavor promises on disk: `1024 * (root + ephemeral) + swap`."""
    return 1024 * (disk_gb + ephemeral_gb) + swap_mb
