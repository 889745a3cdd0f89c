# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Something that a definition refers to outside itself; see `_domain.referring` for what finds it."""

from __future__ import annotations

from dataclasses import dataclass

CARRY = "carry"
KEEP = "keep"
REFUSE = "refuse"


@dataclass(frozen=True)
class Reference:
    """Something outside the definition, and what a move does about it: carry, keep or refuse (with the reason)."""

    kind: str
    name: str
    answer: str
    reason: str
    element: str
