# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a filter is."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import compress
from typing import Any, ClassVar, TypedDict

from ansible_collections.kvmfleet.compute.plugins.module_utils._rules.capacity import Room, room
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.context import Context
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.fleet_state import FleetState, Resource
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.host_state import Capacity, HostState
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.validation import ValidationError, sequence

_HASHABLE = frozenset({str, int, float, bool, tuple})


class Rejection(TypedDict):
    """Why one filter refuses one host: a code for machines, a sentence and two values for people."""

    filter: str
    code: str
    reason: str
    need: Any
    have: Any


class Filter:
    """Made once for a decision, asked once for every host.

    `unit` belongs to numeric `need` and `have`; `reads` names the optional parts of the request that the filter honours. A filter with
    `needs_facts` is not asked about a host of which nothing is known but that it is down.
    """

    unit: ClassVar[str] = ""
    reads: ClassVar[frozenset[str]] = frozenset()
    needs_facts: ClassVar[bool] = True

    def __init__(self, context: Context) -> None:
        self.context = context

    def applies(self) -> bool:
        """Whether the request gives the filter anything to check; one that has nothing is not asked about any host."""
        return True

    def rejection(self, host: HostState) -> Rejection | None:
        """None when the host may take the guest."""
        raise NotImplementedError

    def rejections(self, fleet: FleetState) -> dict[int, Rejection]:
        """The rows that are refused, and why. A filter that can tell from the columns which hosts to look at does so here."""
        return self.asked(fleet, range(len(fleet)))

    def asked(self, fleet: FleetState, rows: Iterable[int]) -> dict[int, Rejection]:
        """What it says of each of these rows."""
        skipped = fleet.unknown if self.needs_facts else ()
        return {row: reason for row in rows if row not in skipped and (reason := self.rejection(fleet.host(row))) is not None}

    def reject(self, code: str, reason: str, need: Any = None, have: Any = None) -> Rejection:
        """A rejection in this filter's name."""
        return {"filter": type(self).__name__, "code": code, "reason": reason, "need": need, "have": have}


class ValueFilter(Filter):
    """A filter that needs only some values of a host, which many hosts have in common: equal values are judged once."""

    def values(self, host: HostState) -> Sequence[Any]:
        """Those of one host."""
        raise NotImplementedError

    def columns(self, fleet: FleetState) -> Sequence[Sequence[Any]]:
        """Those of every host, a column for each."""
        raise NotImplementedError

    def judge(self, *values: Any) -> Rejection | None:
        """What a host with these values gets."""
        raise NotImplementedError

    def rejection(self, host: HostState) -> Rejection | None:
        return self.judge(*self.values(host))

    def rejections(self, fleet: FleetState) -> dict[int, Rejection]:
        columns = self.columns(fleet)
        found = list(zip(*columns))
        # Values of one plain type are equal if they are the same; 1 and true, or two lists, are told apart by how they are written.
        plain_types = all(len(types := set(map(type, column)) - {type(None)}) <= 1 and types <= _HASHABLE for column in columns)
        keys = found if plain_types else list(map(repr, found))
        verdicts = {key: self.judge(*values) for key, values in dict(zip(keys, found)).items()}
        refused = {key: reason for key, reason in verdicts.items() if reason is not None}
        if not refused:
            return {}
        return {row: refused[key] for row, key in enumerate(keys) if key in refused and row not in fleet.unknown}


class CapacityFilter(Filter):
    """A resource of which the host must have enough left: `total x ratio - used >= need`, and `total >= need`.

    `resource` is its name in the host state. Where `aggregate_ratio` names a metadata key, the lowest value in the host's aggregates wins over
    the ratio of the host.
    """

    code: ClassVar[str]
    resource: ClassVar[str]
    aggregate_ratio: ClassVar[str | None] = None

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.need = plain(self.needed(context))

    def needed(self, context: Context) -> float:
        """How much the request asks for."""
        raise NotImplementedError

    def capacity(self, host: HostState) -> Capacity:
        """How much the host has."""
        capacity: Capacity = getattr(host, self.resource)
        ratio = None if self.aggregate_ratio is None else host.metadata_min(self.aggregate_ratio, above=0)
        return capacity if ratio is None else capacity._replace(ratio=ratio)

    def rejections(self, fleet: FleetState) -> dict[int, Rejection]:
        resource: Resource = getattr(fleet, self.resource)
        need = self.need
        short = [row for row, ample in enumerate(resource.ample) if ample < need]
        if self.aggregate_ratio is None:
            return {row: reason for row in short if (reason := self._judge(resource.of(row))) is not None}
        return self.asked(fleet, {*short, *compress(range(len(fleet)), fleet.metadata_texts(self.aggregate_ratio))})

    def rejection(self, host: HostState) -> Rejection | None:
        return self._judge(self.capacity(host))

    def _judge(self, capacity: Capacity) -> Rejection | None:
        total, used, ratio, reserved = capacity
        verdict = room(total, used + reserved * (ratio - 1), ratio, self.need)
        return None if verdict.fits else self._refusal(capacity, verdict)

    def _refusal(self, capacity: Capacity, verdict: Room) -> Rejection:
        need, unit, total, have = self.need, self.unit, plain(capacity.total), plain(verdict.have)
        if need > total:
            have = min(have, total)
            reason = f"needs {need} {unit}, the whole host has {total} {unit} (no guest overcommits against itself)"
        else:
            withheld = f", {plain(capacity.withheld)} {unit} withheld for what is reserved" if capacity.reserved else ""
            reason = (
                f"needs {need} {unit}, {have} {unit} left of {plain(verdict.limit)} {unit} "
                f"({total} {unit} x {capacity.ratio:g}), {plain(capacity.used)} {unit} used{withheld}"
            )
        return self.reject(self.code, reason, need, have)


class LimitFilter(Filter):
    """A count, the column called `fact`, that must stay below a limit: the option called `option`.

    Where `aggregates` is true, the lowest limit in the host's aggregates wins over the option.
    """

    code: ClassVar[str]
    what: ClassVar[str]
    option: ClassVar[str]
    fact: ClassVar[str]
    aggregates: ClassVar[bool] = False

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.fleet_limit = getattr(context.options, self.option)

    def limit(self, host: HostState) -> float:
        """How many are too many."""
        own = host.metadata_min(self.option) if self.aggregates else None
        return self.fleet_limit if own is None else own

    def rejections(self, fleet: FleetState) -> dict[int, Rejection]:
        limit, told = self.fleet_limit, fleet.metadata_texts(self.option) if self.aggregates else ()
        full = [row for row, counted in enumerate(getattr(fleet, self.fact)) if counted >= limit]
        return self.asked(fleet, {*full, *compress(range(len(fleet)), told)} if told else full)

    def rejection(self, host: HostState) -> Rejection | None:
        counted, limit = getattr(host, self.fact), self.limit(host)
        if counted < limit:
            return None
        return self.reject(self.code, f"{plain(counted)} {self.what}, fewer than {plain(limit)} are allowed", f"fewer than {plain(limit)}", plain(counted))


def plain(amount: float) -> int | float:
    """A whole number as int, another rounded to three places."""
    if isinstance(amount, int):
        return amount
    return int(amount) if amount == int(amount) else round(amount, 3)


def hinted(context: Context, hint: str) -> list[str]:
    """The texts of a scheduler hint, which may be one or a list."""
    value = context.request.scheduler_hints.get(hint)
    path = f"request.scheduler_hints.{hint}"
    texts = [value] if isinstance(value, str) else sequence(path, value)
    for index, text in enumerate(texts):
        if not isinstance(text, str):
            raise ValidationError(f"{path}[{index}]", text, "a string")
    return [str(text) for text in texts if text]
