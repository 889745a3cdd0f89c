# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A host as the filters and weighers see it: facts read once, numbers converted once, ratios resolved once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.options import Options
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.request import Flavor
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.validation import (
    ValidationError,
    boolean,
    check_name,
    mapping,
    number,
    optional_name,
    sequence,
)


class Capacity(NamedTuple):
    """One resource of a host; `used` contains what is reserved. The order is that of `_capacity.room`."""

    total: float
    used: float
    ratio: float

    @property
    def free(self) -> float:
        """What is left without overcommit; may be negative."""
        return self.total - self.used

    def credited(self, amount: float) -> Capacity:
        """The same without one guest's share."""
        return self._replace(used=max(0, self.used - amount))


@dataclass(frozen=True, slots=True)
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
        up = boolean(f"{path}.up", get("up"), default=True)
        io_ops = get("num_io_ops")
        metadata = _metadata(f"{path}.aggregates", get("aggregates"))
        known = up or all(get(key) is not None for key in ("vcpus", "vcpus_used", "memory_mb", "memory_mb_used", "local_gb", "local_gb_used"))
        return cls(
            path=path,
            name=check_name(f"{path}.host", get("host")),
            availability_zone=optional_name(f"{path}.availability_zone", get("availability_zone")) or options.default_availability_zone,
            metadata=metadata,
            enabled=boolean(f"{path}.enabled", get("enabled"), default=True),
            up=up,
            vcpus=_capacity(path, value, metadata, options, "vcpus", "cpu_allocation_ratio") if known else None,
            memory_mb=_capacity(path, value, metadata, options, "memory_mb", "ram_allocation_ratio") if known else None,
            disk_mb=_disk(path, value, metadata, options) if known else None,
            num_io_ops=0 if io_ops is None else number(f"{path}.num_io_ops", io_ops, 0),
            facts=value,
        )

    def metadata_min(self, key: str) -> float | None:
        """The smallest number that the host's aggregates give for a metadata key, None when none does."""
        return _lowest(self.path, self.metadata, key)

    def without(self, flavor: Flavor) -> HostState:
        """The host with one guest's usage given back, as a resize in place finds it."""
        return replace(
            self,
            vcpus=self.vcpus and self.vcpus.credited(flavor.vcpus),
            memory_mb=self.memory_mb and self.memory_mb.credited(flavor.ram),
            disk_mb=self.disk_mb and self.disk_mb.credited(flavor.disk_mb),
        )


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
    return tuple(
        mapping(f"{path}[{index}].metadata", mapping(f"{path}[{index}]", aggregate).get("metadata")) for index, aggregate in enumerate(sequence(path, value))
    )


def _lowest(path: str, metadata: Sequence[Mapping[str, Any]], key: str, above: float | None = None) -> float | None:
    given = [(index, item[key]) for index, item in enumerate(metadata) if item.get(key) is not None]
    return min((number(f"{path}.aggregates[{index}].metadata.{key}", value, above=above) for index, value in given), default=None)


def _ratio(path: str, facts: Mapping[str, Any], metadata: Sequence[Mapping[str, Any]], options: Options, key: str) -> float:
    """The nearest word wins: the host's own value, then the lowest of its aggregates, then the fleet's option or its default."""
    own = facts.get(key)
    if own is not None:
        return number(f"{path}.{key}", own, above=0)
    shared = _lowest(path, metadata, key, above=0)
    return getattr(options, key) if shared is None else shared


def _capacity(path: str, facts: Mapping[str, Any], metadata: Sequence[Mapping[str, Any]], options: Options, key: str, ratio: str) -> Capacity:
    total = number(f"{path}.{key}", facts.get(key), 0)
    used = number(f"{path}.{key}_used", facts.get(f"{key}_used"), 0)
    return Capacity(total, used, _ratio(path, facts, metadata, options, ratio))


def _disk(path: str, facts: Mapping[str, Any], metadata: Sequence[Mapping[str, Any]], options: Options) -> Capacity:
    """Nova's rule: what is free is the smaller of what is not promised and what the sparse images leave on the file system."""
    promised = _capacity(path, facts, metadata, options, "local_gb", "disk_allocation_ratio")
    free = promised.free
    least = facts.get("disk_available_least")
    if least is not None:
        free = min(free, number(f"{path}.disk_available_least", least))
    return Capacity(promised.total * 1024, (promised.total - free) * 1024, promised.ratio)
