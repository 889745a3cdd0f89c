# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A host as the filters and weighers see it: facts read once, numbers converted once, ratios resolved once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

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

_PLAIN = frozenset({int, float})
_DICT = frozenset({dict})
_USED = {"vcpus": "vcpus_used", "memory_mb": "memory_mb_used", "local_gb": "local_gb_used"}
_CAPACITIES = ("vcpus", "vcpus_used", "memory_mb", "memory_mb_used", "local_gb", "local_gb_used")


class Capacity(NamedTuple):
    """One resource of a host; `used` contains what is reserved.

    `reserved` is the part of it that an allocation ratio does not multiply: none by RamFilter's rule, all of it by Placement's.
    """

    total: float
    used: float
    ratio: float
    reserved: float = 0

    @property
    def free(self) -> float:
        """What is left without overcommit; may be negative."""
        return self.total - self.used

    @property
    def withheld(self) -> float:
        """What Placement's `(total - reserved) * ratio` leaves less than `total * ratio - reserved`."""
        return self.reserved * (self.ratio - 1)

    @property
    def plain_ratio(self) -> float:
        """The ratio that leaves the same by RamFilter's rule, for those who know only that one."""
        return self.ratio - self.withheld / self.total if self.withheld else self.ratio

    def credited(self, amount: float) -> Capacity:
        """The same without one guest's share."""
        return self._replace(used=max(0, self.used - amount))


@dataclass(slots=True)
class HostState:
    """One host. The capacities are None only while the host is not up: then nothing is known and ComputeFilter refuses it.

    `facts` is the mapping that the state was built from, for filters which look into less common keys.
    """

    path: str
    name: str
    availability_zone: str
    metadata: tuple[Mapping[str, Any], ...]
    enabled: bool
    up: bool
    known: bool
    vcpus: Capacity | None
    memory_mb: Capacity | None
    disk_mb: Capacity | None
    num_io_ops: int | float
    facts: Mapping[str, Any]

    @classmethod
    def build(cls, index: int, value: object, options: Options) -> HostState:
        """Read `hosts[index]`; unknown keys are left alone, facts carry more than the scheduler needs."""
        path = f"hosts[{index}]"
        if not isinstance(value, Mapping):
            raise ValidationError(path, value, "a mapping, the state of one host")
        get = value.get
        up, enabled = _flag(path, value, "up"), _flag(path, value, "enabled")
        aggregates = get("aggregates")
        metadata = _metadata(f"{path}.aggregates", aggregates) if aggregates else ()
        known = up or all(get(key) is not None for key in _CAPACITIES)
        return cls(
            path,
            check_name(f"{path}.host", get("host")),
            optional_name(f"{path}.availability_zone", get("availability_zone")) or options.default_availability_zone,
            metadata,
            enabled,
            up,
            known,
            _capacity(path, value, metadata, options, "vcpus", "cpu_allocation_ratio") if known else None,
            _capacity(path, value, metadata, options, "memory_mb", "ram_allocation_ratio") if known else None,
            _disk(path, value, metadata, options) if known else None,
            _count(path, value, "num_io_ops"),
            value,
        )

    @property
    def instances(self) -> Sequence[str]:
        """UUIDs of the guests here."""
        return strings(f"{self.path}.instances", self.facts.get("instances"))

    @property
    def num_instances(self) -> int | float:
        """Guests here, as the facts count them or as they list them."""
        counted = self.facts.get("num_instances")
        return len(self.instances) if counted is None else _number(self.path, self.facts, "num_instances")

    def texts(self, key: str) -> Sequence[str] | None:
        """A fact that is a list of strings; None where it is not told."""
        value = self.facts.get(key)
        return None if value is None else strings(f"{self.path}.{key}", value)

    def mapping(self, key: str) -> Mapping[str, Any] | None:
        """A fact that is a mapping; None where it is not told."""
        value = self.facts.get(key)
        return None if value is None else mapping(f"{self.path}.{key}", value)

    def mappings(self, key: str) -> Iterator[Mapping[str, Any]]:
        """The items of a fact that is a list of mappings."""
        for index, item in enumerate(sequence(f"{self.path}.{key}", self.facts.get(key))):
            yield item if isinstance(item, dict) else mapping(f"{self.path}.{key}[{index}]", item)

    def count(self, key: str) -> int | float:
        """A fact that counts something; 0 where it is not told."""
        value = self.facts.get(key)
        if type(value) in _PLAIN and 0 <= value <= LARGEST:
            return value
        return _count(self.path, self.facts, key)

    def attribute(self, name: str) -> Any:
        """A fact, or what Nova's HostState calls by this name; None where there is neither."""
        nova = _NOVA_NAMES.get(name)
        return self.facts.get(name) if nova is None or not self.known else nova(self)

    def metadata_min(self, key: str, above: float | None = None) -> float | None:
        """The smallest number that the host's aggregates give for a metadata key, None when none does."""
        return _lowest(self.path, self.metadata, key, above)

    def metadata_values(self, key: str) -> set[str]:
        """All texts that the host's aggregates give for a metadata key, lists with commas taken apart."""
        return {word.strip() for item in self.metadata if item.get(key) is not None for word in str(item[key]).split(",")}

    def without(self, flavor: Flavor) -> HostState:
        """The host with one guest's usage given back, as a resize in place finds it."""
        return replace(
            self,
            vcpus=self.vcpus and self.vcpus.credited(flavor.vcpus),
            memory_mb=self.memory_mb and self.memory_mb.credited(flavor.ram),
            disk_mb=self.disk_mb and self.disk_mb.credited(flavor.disk_mb),
        )


_NOVA_NAMES: dict[str, Callable[[HostState], Any]] = {
    "nodename": lambda host: host.name,
    "hypervisor_hostname": lambda host: host.name,
    "total_usable_ram_mb": lambda host: host.memory_mb.total,
    "free_ram_mb": lambda host: host.memory_mb.free,
    "total_usable_disk_gb": lambda host: host.disk_mb.total / 1024,
    "free_disk_mb": lambda host: host.disk_mb.free,
    "disk_mb_used": lambda host: host.count("local_gb_used") * 1024,
    "vcpus_total": lambda host: host.vcpus.total,
    "num_instances": lambda host: host.num_instances,
    "num_io_ops": lambda host: host.num_io_ops,
    "cpu_allocation_ratio": lambda host: host.vcpus.ratio,
    "ram_allocation_ratio": lambda host: host.memory_mb.ratio,
    "disk_allocation_ratio": lambda host: host.disk_mb.ratio,
}


def read_hosts(value: object, options: Options) -> dict[str, HostState]:
    """Read the `hosts` argument: states by name, in the order given."""
    hosts: dict[str, HostState] = {}
    for index, item in enumerate(sequence("hosts", value)):
        state = HostState.build(index, item, options)
        if state.name in hosts:
            raise ValidationError(f"{state.path}.host", state.name, f"every host once (it is {hosts[state.name].path} already)")
        hosts[state.name] = state
    return hosts


def _metadata(path: str, value: object) -> tuple[Mapping[str, Any], ...]:
    found = []
    for index, aggregate in enumerate(sequence(path, value)):
        metadata = aggregate.get("metadata") if type(aggregate) in _DICT else mapping(f"{path}[{index}]", aggregate).get("metadata")
        found.append(metadata if type(metadata) in _DICT else mapping(f"{path}[{index}].metadata", metadata))
    return tuple(found)


def _flag(path: str, facts: Mapping[str, Any], key: str) -> bool:
    value = facts.get(key)
    return value if value is True or value is False else boolean(f"{path}.{key}", value, default=True)


def _count(path: str, facts: Mapping[str, Any], key: str) -> int | float:
    return 0 if facts.get(key) is None else _number(path, facts, key)


def _number(path: str, facts: Mapping[str, Any], key: str) -> int | float:
    """A fact that is a number >= 0; plain numbers are told apart first, since most are."""
    value = facts.get(key)
    if type(value) in _PLAIN and 0 <= value <= LARGEST:
        return value
    return number(f"{path}.{key}", value, 0)


def _lowest(path: str, metadata: Sequence[Mapping[str, Any]], key: str, above: float | None = None) -> float | None:
    lowest = None
    for index, item in enumerate(metadata):
        value = item.get(key)
        if value is not None:
            value = number(f"{path}.aggregates[{index}].metadata.{key}", value, above=above)
            lowest = value if lowest is None or value < lowest else lowest
    return lowest


def _ratio(path: str, facts: Mapping[str, Any], metadata: Sequence[Mapping[str, Any]], options: Options, key: str) -> float:
    """The nearest word wins: the host's own value, then the lowest of its aggregates, then the fleet's option or its default."""
    own = facts.get(key)
    if own is not None:
        return own if type(own) in _PLAIN and 0 < own <= LARGEST else number(f"{path}.{key}", own, above=0)
    shared = _lowest(path, metadata, key, above=0) if metadata else None
    return getattr(options, key) if shared is None else shared


def _capacity(path: str, facts: Mapping[str, Any], metadata: Sequence[Mapping[str, Any]], options: Options, key: str, ratio: str) -> Capacity:
    return Capacity(
        _number(path, facts, key),
        _number(path, facts, _USED[key]),
        _ratio(path, facts, metadata, options, ratio),
        _reserved(path, facts, key) if options.reserved_rule == "placement" else 0,
    )


def _disk(path: str, facts: Mapping[str, Any], metadata: Sequence[Mapping[str, Any]], options: Options) -> Capacity:
    """Nova's rule: what is free is the smaller of what is not promised and what the sparse images leave on the file system."""
    total, used, ratio, _reserved_gb = _capacity(path, facts, metadata, options, "local_gb", "disk_allocation_ratio")
    free = total - used
    least = facts.get("disk_available_least")
    if least is not None:
        free = min(free, least if type(least) in _PLAIN and 0 <= least <= LARGEST else number(f"{path}.disk_available_least", least))
    return Capacity(total * 1024, (total - free) * 1024, ratio, _reserved(path, facts, "disk_mb") if options.reserved_rule == "placement" else 0)


def _reserved(path: str, facts: Mapping[str, Any], key: str) -> float:
    kept = mapping(f"{path}.reserved", facts.get("reserved")).get(key)
    return 0 if kept is None else number(f"{path}.reserved.{key}", kept, 0)
