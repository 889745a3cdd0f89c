# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The hosts of a decision, in columns: facts are read once for all hosts, numbers converted once, ratios resolved once.

A decision about thousands of hosts mostly compares one number of each with one number of the request; walking along a list does that several times
faster than asking an object for each host. Who looks at one host only sees it as a HostState.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import chain
from math import nan
from typing import Any, TypeVar

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.host_state import Capacity, HostState, lowest
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.options import Options
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.request import Flavor
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.validation import (
    LARGEST,
    ValidationError,
    boolean,
    check_name,
    mapping,
    number,
    optional_name,
    sequence,
    strings,
)

T = TypeVar("T")
_PLAIN = frozenset({int, float})
_TEXT = frozenset({str})
_CAPACITIES = ("vcpus", "vcpus_used", "memory_mb", "memory_mb_used", "local_gb", "local_gb_used")


def _derived_once(derive: Callable[[FleetState], T]) -> property:
    """A property of the facts, worked out when it is first asked for; see FleetState.crediting."""

    def get(self: FleetState) -> T:
        derived = self._derived
        if derive.__name__ not in derived:
            derived[derive.__name__] = derive(self)
        found: T = derived[derive.__name__]
        return found

    return property(get, doc=derive.__doc__)


@dataclass(frozen=True, eq=False)
class Resource:
    """One resource of every host; not a number where nothing is known. See Capacity."""

    total: list[float]
    used: list[float]
    ratio: list[float]
    reserved: list[float]

    def of(self, row: int) -> Capacity:
        """That of one host."""
        return Capacity(self.total[row], self.used[row], self.ratio[row], self.reserved[row])

    @cached_property
    def ample(self) -> list[float]:
        """A need that each host surely meets: 1 below the limit there is no rounding to think of."""
        rooms = [total * ratio - used - reserved * (ratio - 1) - 1 for total, used, ratio, reserved in zip(self.total, self.used, self.ratio, self.reserved)]
        return [room if room < total else total for room, total in zip(rooms, self.total)]

    def credited(self, row: int, amount: float) -> Resource:
        """The same with one guest's share given back on one host."""
        return replace(self, used=_replacing(self.used, row, max(0, self.used[row] - amount)))

    def replacing(self, row: int, capacity: Capacity) -> Resource:
        """The same with another capacity of one host."""
        return Resource(*(_replacing(getattr(self, name), row, value) for name, value in capacity._asdict().items()))


@dataclass(frozen=True, eq=False)
class FleetState(Mapping[str, HostState]):
    """The hosts by name, in the order given, and their columns; `first` is the place of the first row in the argument."""

    first: int
    facts: list[Mapping[str, Any]]
    names: list[str]
    zones: list[str]
    metadata: list[tuple[Mapping[str, Any], ...]]
    enabled: list[bool]
    up: list[bool]
    unknown: frozenset[int]
    vcpus: Resource
    memory_mb: Resource
    disk_mb: Resource
    num_io_ops: list[float]
    _columns: dict[str, list[Any]] = field(default_factory=dict, init=False)
    _metadata_texts: dict[str, list[tuple[str, ...]]] = field(default_factory=dict, init=False)
    _derived: dict[str, Any] = field(default_factory=dict, init=False)

    @classmethod
    def read(cls, value: object, options: Options, first: int = 0) -> FleetState:
        """Read the `hosts` argument; unknown keys are left alone, facts carry more than the scheduler needs."""
        facts = list(sequence("hosts", value))
        for row, item in enumerate(facts):
            if not isinstance(item, (dict, Mapping)):
                raise ValidationError(f"hosts[{first + row}]", item, "a mapping, the state of one host")
        reader = _Reader(facts, first, options)
        return cls(
            first=first,
            facts=facts,
            names=reader.names(),
            zones=reader.zones(),
            metadata=reader.metadata,
            enabled=reader.flags("enabled"),
            up=reader.up,
            unknown=reader.unknown,
            vcpus=reader.resource("vcpus", "vcpus_used", "cpu_allocation_ratio"),
            memory_mb=reader.resource("memory_mb", "memory_mb_used", "ram_allocation_ratio"),
            disk_mb=reader.disk(),
            num_io_ops=reader.numbers("num_io_ops", default=0),
        )

    def __getitem__(self, name: str) -> HostState:
        return HostState(self, self.rows[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)

    def host(self, row: int) -> HostState:
        """One host, for those who look at it closely."""
        return HostState(self, row)

    def path(self, row: int) -> str:
        """Where a host is in the argument."""
        return f"hosts[{self.first + row}]"

    @_derived_once
    def rows(self) -> dict[str, int]:
        """Row by name."""
        return dict(zip(self.names, range(len(self.names))))

    @_derived_once
    def instances(self) -> list[Sequence[str]]:
        """UUIDs of the guests of each host."""
        listed = [guests if isinstance(guests, list) else self.host(row).instances for row, guests in enumerate(self.column("instances"))]
        if not set(map(type, chain.from_iterable(listed))) <= _TEXT:
            return [strings(f"{self.path(row)}.instances", guests) for row, guests in enumerate(listed)]
        return listed

    @_derived_once
    def num_instances(self) -> list[float]:
        """Guests of each host, as the facts count them or as they list them."""
        return [
            counted if type(counted) in _PLAIN and 0 <= counted <= LARGEST else self.host(row).num_instances
            for row, counted in enumerate(self.column("num_instances"))
        ]

    @_derived_once
    def in_zone(self) -> dict[str, list[int]]:
        """The rows of each zone."""
        found: dict[str, list[int]] = {}
        for row, zone in enumerate(self.zones):
            found.setdefault(zone, []).append(row)
        return found

    def column(self, key: str) -> list[Any]:
        """One fact of every host, as it is."""
        if key not in self._columns:
            self._columns[key] = [facts.get(key) for facts in self.facts]
        return self._columns[key]

    def counts(self, key: str, rows: Iterable[int]) -> list[float]:
        """A fact of some hosts that counts something."""
        column = self.column(key)
        return [counted if type(counted := column[row]) in _PLAIN and 0 <= counted <= LARGEST else self.host(row).count(key) for row in rows]

    def metadata_texts(self, key: str) -> list[tuple[str, ...]]:
        """What the aggregates of each host give for a metadata key."""
        if key not in self._metadata_texts:
            self._metadata_texts[key] = [
                tuple([str(item[key]) for item in metadata if item.get(key) is not None]) if metadata else () for metadata in self.metadata
            ]
        return self._metadata_texts[key]

    def crediting(self, name: str, flavor: Flavor) -> FleetState:
        """The same with one guest's usage given back on its host, as a resize in place finds it."""
        row = self.rows[name]
        credited = replace(
            self,
            vcpus=self.vcpus.credited(row, flavor.vcpus),
            memory_mb=self.memory_mb.credited(row, flavor.ram),
            disk_mb=self.disk_mb.credited(row, flavor.disk_mb),
        )
        # Only capacities differ: what either derives from the facts, now or later, holds for both.
        vars(credited).update({name: vars(self)[name] for name in ("_columns", "_metadata_texts", "_derived")})
        return credited

    def replacing(self, host: HostState) -> FleetState:
        """The same with another state of one host, read as a fleet of its own."""
        row, other = self.rows[host.name], host.fleet
        lists = ("facts", "names", "zones", "metadata", "enabled", "up", "num_io_ops")
        resources = ("vcpus", "memory_mb", "disk_mb")
        return replace(
            self,
            unknown=self.unknown - {row} | ({row} if other.unknown else frozenset()),
            **{name: _replacing(getattr(self, name), row, getattr(other, name)[host.row]) for name in lists},
            **{name: getattr(self, name).replacing(row, getattr(other, name).of(host.row)) for name in resources},
        )


class _Reader:
    """Makes the columns. A plain value that needs no conversion, as most are, passes with one look; any other goes through its check."""

    def __init__(self, facts: Sequence[Mapping[str, Any]], first: int, options: Options) -> None:
        self.facts = facts
        self.first = first
        self.options = options
        self.up = self.flags("up")
        self.unknown = frozenset(row for row, up in enumerate(self.up) if not (up or all(facts[row].get(key) is not None for key in _CAPACITIES)))
        self.metadata = [self._metadata(row, aggregates) if (aggregates := item.get("aggregates")) else () for row, item in enumerate(facts)]

    def names(self) -> list[str]:
        names = [check_name(f"{self._path(row)}.host", item.get("host")) for row, item in enumerate(self.facts)]
        if len(set(names)) < len(names):
            again = next(row for row, name in enumerate(names) if name in names[:row])
            earlier = self._path(names.index(names[again]))
            raise ValidationError(f"{self._path(again)}.host", names[again], f"every host once (it is {earlier} already)")
        return names

    def zones(self) -> list[str]:
        checked: dict[str, str] = {}

        def check(row: int, value: object) -> str:
            zone = optional_name(f"{self._path(row)}.availability_zone", value) or self.options.default_availability_zone
            return checked.setdefault(zone, zone)

        told = (item.get("availability_zone") for item in self.facts)
        return [zone if isinstance(zone, str) and zone in checked else check(row, zone) for row, zone in enumerate(told)]

    def flags(self, key: str) -> list[bool]:
        told = (item.get(key) for item in self.facts)
        return [value if value is True or value is False else boolean(f"{self._path(row)}.{key}", value, default=True) for row, value in enumerate(told)]

    def numbers(self, key: str, default: float | None = None) -> list[float]:
        """A fact that is a number >= 0; not a number where nothing is known of the host."""

        def check(row: int, value: object) -> float:
            if value is None and default is not None:
                return default
            return nan if default is None and row in self.unknown else number(f"{self._path(row)}.{key}", value, 0)

        told = (item.get(key) for item in self.facts)
        return [value if type(value) in _PLAIN and 0 <= value <= LARGEST else check(row, value) for row, value in enumerate(told)]

    def resource(self, total: str, used: str, ratio: str) -> Resource:
        return Resource(self.numbers(total), self.numbers(used), self._ratios(ratio), self._reserved(total))

    def disk(self) -> Resource:
        """Nova's rule: what is free is the smaller of what is not promised and what the sparse images leave on the file system."""

        def check(row: int, value: object) -> float:
            return number(f"{self._path(row)}.disk_available_least", value)

        total, used = self.numbers("local_gb"), self.numbers("local_gb_used")
        told = (item.get("disk_available_least") for item in self.facts)
        least = [value if value is None or type(value) in _PLAIN and 0 <= value <= LARGEST else check(row, value) for row, value in enumerate(told)]
        taken = [(gb - (gb - promised if free is None or gb - promised < free else free)) * 1024 for gb, promised, free in zip(total, used, least)]
        return Resource([gb * 1024 for gb in total], taken, self._ratios("disk_allocation_ratio"), self._reserved("disk_mb"))

    def _ratios(self, key: str) -> list[float]:
        """The nearest word wins: the host's own value, then the lowest of its aggregates, then the fleet's option or its default."""
        fleet_wide = getattr(self.options, key)

        def check(row: int, value: object) -> float:
            if value is not None:
                return number(f"{self._path(row)}.{key}", value, above=0)
            shared = lowest(self._path(row), self.metadata[row], key, above=0)
            return fleet_wide if shared is None else shared

        told = (item.get(key) for item in self.facts)
        return [value if type(value) in _PLAIN and 0 < value <= LARGEST else check(row, value) for row, value in enumerate(told)]

    def _reserved(self, key: str) -> list[float]:
        if self.options.reserved_rule != "placement":
            return [0] * len(self.facts)
        return [self._kept(row, item.get("reserved"), key) for row, item in enumerate(self.facts)]

    def _kept(self, row: int, reserved: object, key: str) -> float:
        path = f"{self._path(row)}.reserved"
        kept = mapping(path, reserved).get(key)
        return 0 if kept is None else number(f"{path}.{key}", kept, 0)

    def _metadata(self, row: int, aggregates: object) -> tuple[Mapping[str, Any], ...]:
        path = f"{self._path(row)}.aggregates"
        found = []
        for index, aggregate in enumerate(sequence(path, aggregates)):
            metadata = aggregate.get("metadata") if isinstance(aggregate, dict) else mapping(f"{path}[{index}]", aggregate).get("metadata")
            found.append(metadata if isinstance(metadata, dict) else mapping(f"{path}[{index}].metadata", metadata))
        return tuple(found)

    def _path(self, row: int) -> str:
        return f"hosts[{self.first + row}]"


def _replacing(column: list[Any], row: int, value: Any) -> list[Any]:
    changed = column.copy()
    changed[row] = value
    return changed
