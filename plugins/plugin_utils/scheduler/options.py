# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The scheduler's options, under Nova's names where Nova has them; what is not given comes from a preset."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.expression import Expression, read_expressions
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.presets import DEFAULT_PRESET, PRESETS
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

RESERVED_RULES = ("ram_filter", "placement")


@dataclass(frozen=True, slots=True)
class Options:
    """How a decision is made; the same for every host and request.

    `reserved_rule` says how the capacity that a host keeps for itself and an allocation ratio meet: `total * ratio - reserved` as in Nova's
    RamFilter, or `(total - reserved) * ratio` as in Placement.
    """

    enabled_filters: tuple[str, ...]
    weighers: Mapping[str, float]
    cpu_allocation_ratio: float
    ram_allocation_ratio: float
    disk_allocation_ratio: float
    reserved_rule: str
    allow_resize_to_same_host: bool
    prefer_same_host: bool
    preset: str = DEFAULT_PRESET
    default_availability_zone: str = "nova"
    max_io_ops_per_host: int = 8
    max_instances_per_host: int = 50
    isolated_hosts: tuple[str, ...] = ()
    isolated_images: tuple[str, ...] = ()
    restrict_isolated_hosts_to_isolated_images: bool = True
    image_properties_default_architecture: str | None = None
    metrics_weight_setting: Mapping[str, float] | None = None
    metrics_required: bool = True
    metrics_weight_of_unavailable: float = -10000.0
    image_props_weight_setting: Mapping[str, float] | None = None
    pci_alias: Mapping[str, Mapping[str, str]] | None = None
    allow_unlike_cpu: bool = False
    host_subset_size: int = 1
    shuffle_best_same_weighed_hosts: bool = False
    shuffle_seed: int | str | None = None
    max_attempts: int = 3
    plugin_path: str | None = None
    custom_filters: tuple[Expression, ...] = ()

    @classmethod
    def build(cls, value: object) -> Options:
        """Read the `scheduler` argument; a key that is null counts as not given."""
        given = known_mapping("scheduler", value, [option.name for option in fields(cls)])
        read = {key: _READERS[key](f"scheduler.{key}", item) for key, item in given.items() if item is not None}
        return cls(**{**PRESETS[read.get("preset", DEFAULT_PRESET)], **read})


def _names(path: str, value: object) -> tuple[str, ...]:
    return tuple(dict.fromkeys(check_name(f"{path}[{index}]", name) for index, name in enumerate(sequence(path, value))))


def _texts(path: str, value: object) -> tuple[str, ...]:
    for index, text in enumerate(sequence(path, value)):
        if not isinstance(text, str):
            raise ValidationError(f"{path}[{index}]", text, "a string")
    return tuple(map(str, sequence(path, value)))


def _multipliers(path: str, value: object) -> dict[str, float]:
    return {str(name): float(number(f"{path}.{name}", multiplier)) for name, multiplier in mapping(path, value).items()}


def _aliases(path: str, value: object) -> dict[str, dict[str, str]]:
    return {str(name): _device(f"{path}.{name}", device) for name, device in mapping(path, value).items()}


def _device(path: str, value: object) -> dict[str, str]:
    return {key: str(text).lower() for key, text in known_mapping(path, value, ("vendor_id", "product_id")).items()}


def _one_of(*known: str) -> Callable[[str, object], str]:
    def read(path: str, value: object) -> str:
        if value not in known:
            raise ValidationError.not_one_of(path, value, known)
        return str(value)

    return read


def _ratio(path: str, value: object) -> float:
    return number(path, value, above=0)


def _count(path: str, value: object) -> int:
    return integer(path, value, 1)


def _flag(path: str, value: object) -> bool:
    return boolean(path, value, default=False)


def _path(path: str, value: object) -> str:
    if not isinstance(value, str) or not value.startswith("/"):
        raise ValidationError(path, value, "the absolute path of a directory")
    return str(value)


def _seed(path: str, value: object) -> int | str:
    if isinstance(value, int) and not isinstance(value, bool):
        return int(value)
    if isinstance(value, str):
        return str(value)
    raise ValidationError(path, value, "a whole number or a string")


_READERS = {
    "preset": _one_of(*PRESETS),
    "enabled_filters": _names,
    "weighers": _multipliers,
    "cpu_allocation_ratio": _ratio,
    "ram_allocation_ratio": _ratio,
    "disk_allocation_ratio": _ratio,
    "reserved_rule": _one_of(*RESERVED_RULES),
    "allow_resize_to_same_host": _flag,
    "prefer_same_host": _flag,
    "default_availability_zone": check_name,
    "max_io_ops_per_host": _count,
    "max_instances_per_host": _count,
    "isolated_hosts": _names,
    "isolated_images": _texts,
    "restrict_isolated_hosts_to_isolated_images": _flag,
    "image_properties_default_architecture": check_name,
    "metrics_weight_setting": _multipliers,
    "metrics_required": _flag,
    "metrics_weight_of_unavailable": number,
    "image_props_weight_setting": _multipliers,
    "pci_alias": _aliases,
    "allow_unlike_cpu": _flag,
    "host_subset_size": _count,
    "shuffle_best_same_weighed_hosts": _flag,
    "shuffle_seed": _seed,
    "max_attempts": _count,
    "plugin_path": _path,
    "custom_filters": read_expressions,
}
