# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The scheduler's options, Nova's names and the defaults of the article's Nova."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.validation import (
    ValidationError,
    boolean,
    check_name,
    integer,
    known_mapping,
    mapping,
    number,
    sequence,
)

DEFAULT_FILTERS = (
    "RetryFilter",
    "AvailabilityZoneFilter",
    "RamFilter",
    "ComputeFilter",
    "ComputeCapabilitiesFilter",
    "ImagePropertiesFilter",
    "CoreFilter",
    "DiskFilter",
    "IoOpsFilter",
)
DEFAULT_WEIGHERS = {"RAMWeigher": 1.0}


@dataclass(frozen=True, slots=True)
class Options:
    """How a decision is made; the same for every host and request."""

    enabled_filters: tuple[str, ...] = DEFAULT_FILTERS
    weighers: Mapping[str, float] = field(default_factory=lambda: dict(DEFAULT_WEIGHERS))
    cpu_allocation_ratio: float = 16.0
    ram_allocation_ratio: float = 1.5
    disk_allocation_ratio: float = 1.0
    default_availability_zone: str = "nova"
    max_io_ops_per_host: int = 8
    max_instances_per_host: int = 50
    host_subset_size: int = 1
    shuffle_best_same_weighed_hosts: bool = False
    shuffle_seed: int | str | None = None
    max_attempts: int = 3

    @classmethod
    def build(cls, value: object) -> Options:
        """Read the `scheduler` argument; a key that is null counts as not given."""
        given = known_mapping("scheduler", value, [option.name for option in fields(cls)])
        return cls(**{key: _READERS[key](f"scheduler.{key}", item) for key, item in given.items() if item is not None})


def _names(path: str, value: object) -> tuple[str, ...]:
    return tuple(dict.fromkeys(check_name(f"{path}[{index}]", name) for index, name in enumerate(sequence(path, value))))


def _multipliers(path: str, value: object) -> dict[str, float]:
    return {str(name): float(number(f"{path}.{name}", multiplier)) for name, multiplier in mapping(path, value).items()}


def _ratio(path: str, value: object) -> float:
    return number(path, value, above=0)


def _count(path: str, value: object) -> int:
    return integer(path, value, 1)


def _flag(path: str, value: object) -> bool:
    return boolean(path, value, default=False)


def _seed(path: str, value: object) -> int | str:
    if isinstance(value, int) and not isinstance(value, bool):
        return int(value)
    if isinstance(value, str):
        return str(value)
    raise ValidationError(path, value, "a whole number or a string")


_READERS = {
    "enabled_filters": _names,
    "weighers": _multipliers,
    "cpu_allocation_ratio": _ratio,
    "ram_allocation_ratio": _ratio,
    "disk_allocation_ratio": _ratio,
    "default_availability_zone": check_name,
    "max_io_ops_per_host": _count,
    "max_instances_per_host": _count,
    "host_subset_size": _count,
    "shuffle_best_same_weighed_hosts": _flag,
    "shuffle_seed": _seed,
    "max_attempts": _count,
}
