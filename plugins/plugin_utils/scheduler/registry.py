# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Every filter and weigher by name. A new one is a file in `filters/` or `weighers/` and a line here."""

from __future__ import annotations

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.context import Context
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.filters.availability_zone import AvailabilityZoneFilter
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.filters.base import Filter
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.filters.compute import ComputeFilter
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.filters.compute_capabilities import ComputeCapabilitiesFilter
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.filters.core import CoreFilter
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.filters.disk import DiskFilter
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.filters.ignore_hosts import IgnoreHostsFilter
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.filters.image_properties import ImagePropertiesFilter
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.filters.io_ops import IoOpsFilter
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.filters.ram import RamFilter
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.filters.resize_to_same_host import ResizeToSameHostFilter
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.filters.retry import RetryFilter
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.filters.target_host import TargetHostFilter
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.weighers.base import Weigher
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.weighers.ram import RAMWeigher
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.validation import ValidationError

# These speak for the caller's own words and for hosts that cannot or must not take a guest: no list of filters turns them off.
ALWAYS: tuple[type[Filter], ...] = (TargetHostFilter, IgnoreHostsFilter, ResizeToSameHostFilter, ComputeFilter)

FILTERS: dict[str, type[Filter]] = {
    cls.__name__: cls
    for cls in (
        *ALWAYS,
        RetryFilter,
        AvailabilityZoneFilter,
        RamFilter,
        CoreFilter,
        DiskFilter,
        IoOpsFilter,
        ComputeCapabilitiesFilter,
        ImagePropertiesFilter,
    )
}

WEIGHERS: dict[str, type[Weigher]] = {cls.__name__: cls for cls in (RAMWeigher,)}


def filters_for(context: Context) -> list[Filter]:
    """The filters that are always on, then the enabled ones in their order."""
    enabled = [_find(f"scheduler.enabled_filters[{index}]", name, FILTERS) for index, name in enumerate(context.options.enabled_filters)]
    return [cls(context) for cls in dict.fromkeys((*ALWAYS, *enabled))]


def weighers_for(context: Context) -> list[Weigher]:
    """The weighers with their multipliers."""
    return [_find(f"scheduler.weighers.{name}", name, WEIGHERS)(context, multiplier) for name, multiplier in context.options.weighers.items()]


def _find(path: str, name: str, known: dict[str, type]) -> type:
    if name not in known:
        raise ValidationError.not_one_of(path, name, sorted(known))
    return known[name]
