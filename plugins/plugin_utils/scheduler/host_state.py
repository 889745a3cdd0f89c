# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A host as the filters and weighers see it: one row of a fleet state."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.validation import mapping, number, sequence, strings

if TYPE_CHECKING:
    from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.fleet_state import FleetState


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


class HostState:
    """One host. The capacities are None only while the host is not up: then nothing is known and ComputeFilter refuses it.

    `facts` is the mapping that the state was read from, for filters which look into less common keys.
    """

    __slots__ = ("fleet", "row")

    def __init__(self, fleet: FleetState, row: int) -> None:
        self.fleet = fleet
        self.row = row

    @property
    def path(self) -> str:
        """Where the host is in the argument, for errors that name a field."""
        return self.fleet.path(self.row)

    @property
    def name(self) -> str:
        """The name in the inventory."""
        return self.fleet.names[self.row]

    @property
    def facts(self) -> Mapping[str, Any]:
        """What is told of the host."""
        return self.fleet.facts[self.row]

    @property
    def availability_zone(self) -> str:
        """The zone, also where it is only the default one."""
        return self.fleet.zones[self.row]

    @property
    def metadata(self) -> tuple[Mapping[str, Any], ...]:
        """The metadata of each aggregate."""
        return self.fleet.metadata[self.row]

    @property
    def enabled(self) -> bool:
        """False while the administrator lets no guest come."""
        return self.fleet.enabled[self.row]

    @property
    def up(self) -> bool:
        """Whether the host answered."""
        return self.fleet.up[self.row]

    @property
    def known(self) -> bool:
        """Whether its capacities are."""
        return self.row not in self.fleet.unknown

    @property
    def vcpus(self) -> Capacity | None:
        """Its processors."""
        return self.fleet.vcpus.of(self.row) if self.known else None

    @property
    def memory_mb(self) -> Capacity | None:
        """Its memory."""
        return self.fleet.memory_mb.of(self.row) if self.known else None

    @property
    def disk_mb(self) -> Capacity | None:
        """Its disk: free is the smaller of what is not promised and what the sparse images leave."""
        return self.fleet.disk_mb.of(self.row) if self.known else None

    @property
    def num_io_ops(self) -> int | float:
        """Guests that are being built, copied or moved here."""
        return self.fleet.num_io_ops[self.row]

    @property
    def instances(self) -> Sequence[str]:
        """UUIDs of the guests here."""
        return strings(f"{self.path}.instances", self.facts.get("instances"))

    @property
    def num_instances(self) -> int | float:
        """Guests here, as the facts count them or as they list them."""
        return len(self.instances) if self.facts.get("num_instances") is None else self.count("num_instances")

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
        return 0 if value is None else number(f"{self.path}.{key}", value, 0)

    def attribute(self, name: str) -> Any:
        """A fact, or what Nova's HostState calls by this name; None where there is neither."""
        nova = NOVA_NAMES.get(name)
        return self.facts.get(name) if nova is None or not self.known else nova(self)

    def metadata_min(self, key: str, above: float | None = None) -> float | None:
        """The smallest number that the host's aggregates give for a metadata key, None when none does."""
        return lowest(self.path, self.metadata, key, above)

    def metadata_values(self, key: str) -> set[str]:
        """All texts that the host's aggregates give for a metadata key, lists with commas taken apart."""
        return words(self.metadata_texts(key))

    def metadata_texts(self, key: str) -> tuple[str, ...]:
        """What the host's aggregates give for a metadata key, as it is written."""
        return tuple(str(item[key]) for item in self.metadata if item.get(key) is not None)


def words(texts: Iterable[str]) -> set[str]:
    """Lists with commas, taken apart."""
    return {word.strip() for text in texts for word in text.split(",")}


def lowest(path: str, metadata: Sequence[Mapping[str, Any]], key: str, above: float | None = None) -> float | None:
    """The smallest number that aggregates give for a metadata key, None when none does."""
    numbers = [number(f"{path}.aggregates[{index}].metadata.{key}", item[key], above=above) for index, item in enumerate(metadata) if item.get(key) is not None]
    return min(numbers, default=None)


NOVA_NAMES: dict[str, Callable[[HostState], Any]] = {
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
