# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a filter is."""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple

from ansible_collections.kvmfleet.compute.plugins.module_utils._capacity import room
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.context import Context
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.host_state import Capacity, HostState


class Rejection(NamedTuple):
    """Why one filter refuses one host: a code for machines, a sentence and two values for people."""

    filter: str
    code: str
    reason: str
    need: Any = None
    have: Any = None


class Filter:
    """Made once for a decision, asked once for every host.

    `unit` belongs to numeric `need` and `have`; `reads` names the optional parts of the request that the filter honours.
    """

    unit: ClassVar[str] = ""
    reads: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, context: Context) -> None:
        self.context = context

    def rejection(self, host: HostState) -> Rejection | None:
        """None when the host may take the guest."""
        raise NotImplementedError

    def reject(self, code: str, reason: str, need: Any = None, have: Any = None) -> Rejection:
        """A rejection in this filter's name."""
        return Rejection(type(self).__name__, code, reason, need, have)


class CapacityFilter(Filter):
    """A resource of which the host must have enough left: `total x ratio - used >= need`, and `total >= need`."""

    code: ClassVar[str]

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.need = plain(self.needed(context))

    def needed(self, context: Context) -> float:
        """How much the request asks for."""
        raise NotImplementedError

    def capacity(self, host: HostState) -> Capacity | None:
        """How much the host has, None when that is not known."""
        raise NotImplementedError

    def rejection(self, host: HostState) -> Rejection | None:
        capacity = self.capacity(host)
        if capacity is None:
            return None
        verdict = room(*capacity, self.need)
        if verdict.fits:
            return None
        total, have, unit = plain(capacity.total), plain(min(verdict.have, capacity.total)), self.unit
        if self.need > total:
            reason = f"needs {self.need} {unit}, the whole host has {total} {unit} (no guest overcommits against itself)"
        else:
            reason = (
                f"needs {self.need} {unit}, {have} {unit} left of {plain(verdict.limit)} {unit} "
                f"({total} {unit} x {capacity.ratio:g}), {plain(capacity.used)} {unit} used"
            )
        return self.reject(self.code, reason, self.need, have)


def plain(amount: float) -> int | float:
    """A whole number as int, another rounded to three places."""
    return int(amount) if amount == int(amount) else round(amount, 3)
