# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a filter is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

from ansible_collections.kvmfleet.compute.plugins.module_utils._capacity import Room, room
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.context import Context
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.host_state import Capacity, HostState
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.validation import ValidationError, sequence

_PLAIN = frozenset({int})


class Rejection(NamedTuple):
    """Why one filter refuses one host: a code for machines, a sentence and two values for people."""

    filter: str
    code: str
    reason: str
    need: Any = None
    have: Any = None


class Filter:
    """Made once for a decision, asked once for every host.

    `unit` belongs to numeric `need` and `have`; `reads` names the optional parts of the request that the filter honours. A filter with
    `needs_facts` is not asked about a host of which nothing is known but that it is down.

    A fleet has thousands of hosts and most of them pass, so a filter may say by `suspects` which ones are worth asking about.
    """

    unit: ClassVar[str] = ""
    reads: ClassVar[frozenset[str]] = frozenset()
    needs_facts: ClassVar[bool] = True

    def __init__(self, context: Context) -> None:
        self.context = context

    def applies(self) -> bool:
        """Whether the request gives the filter anything to check; one that has nothing is not asked about any host."""
        return True

    def suspects(self, hosts: Sequence[HostState]) -> Sequence[HostState]:
        """At least those hosts which are to be rejected, in their order: a quick look at all of them."""
        return hosts

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

    def suspects(self, hosts: Sequence[HostState]) -> Sequence[HostState]:
        need = self.need
        enough = need + 1  # far from the limit there is no rounding to think of
        return [
            host
            for host, (total, used, ratio, reserved) in zip(hosts, map(self.capacity, hosts))
            if total * ratio - used - reserved * (ratio - 1) < enough or total < need
        ]

    def rejection(self, host: HostState) -> Rejection | None:
        capacity = self.capacity(host)
        if capacity is None:
            return None
        total, used, ratio, reserved = capacity
        verdict = room(total, used + reserved * (ratio - 1), ratio, self.need)
        return None if verdict.fits else self._refusal(capacity, verdict)

    def _refusal(self, capacity: Capacity, verdict: Room) -> Rejection:
        total, have, unit = plain(capacity.total), plain(min(verdict.have, capacity.total)), self.unit
        if self.need > total:
            reason = f"needs {self.need} {unit}, the whole host has {total} {unit} (no guest overcommits against itself)"
        else:
            withheld = f", {plain(capacity.withheld)} {unit} withheld for what is reserved" if capacity.withheld else ""
            reason = (
                f"needs {self.need} {unit}, {have} {unit} left of {plain(verdict.limit)} {unit} "
                f"({total} {unit} x {capacity.ratio:g}), {plain(capacity.used)} {unit} used{withheld}"
            )
        return self.reject(self.code, reason, self.need, have)


class LimitFilter(Filter):
    """A count, most often the fact called `fact`, that must stay below a limit: the option called `option`."""

    code: ClassVar[str]
    what: ClassVar[str]
    option: ClassVar[str]
    fact: ClassVar[str]

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.fleet_limit = getattr(context.options, self.option)

    def counted(self, host: HostState) -> float:
        """How many there are."""
        raise NotImplementedError

    def limit(self, host: HostState) -> float:
        """How many are too many."""
        return self.fleet_limit

    def suspects(self, hosts: Sequence[HostState]) -> Sequence[HostState]:
        fact, limit = self.fact, self.fleet_limit
        if type(self).limit is not LimitFilter.limit:
            return hosts
        return [host for host in hosts if type(counted := host.facts.get(fact)) not in _PLAIN or not 0 <= counted < limit]

    def rejection(self, host: HostState) -> Rejection | None:
        counted, limit = self.counted(host), self.limit(host)
        if counted < limit:
            return None
        return self.reject(self.code, f"{plain(counted)} {self.what}, fewer than {plain(limit)} are allowed", f"fewer than {plain(limit)}", plain(counted))


def plain(amount: float) -> int | float:
    """A whole number as int, another rounded to three places."""
    if type(amount) in _PLAIN:
        return amount
    return int(amount) if amount == int(amount) else round(amount, 3)


def overcommitted(capacity: Capacity | None, ratio: float | None) -> Capacity | None:
    """The capacity under another ratio, if there is one."""
    return capacity if capacity is None or ratio is None else capacity._replace(ratio=ratio)


def hinted(context: Context, hint: str) -> list[str]:
    """The texts of a scheduler hint, which may be one or a list."""
    value = context.request.scheduler_hints.get(hint)
    path = f"request.scheduler_hints.{hint}"
    texts = [value] if isinstance(value, str) else sequence(path, value)
    for index, text in enumerate(texts):
        if not isinstance(text, str):
            raise ValidationError(f"{path}[{index}]", text, "a string")
    return [str(text) for text in texts if text]
