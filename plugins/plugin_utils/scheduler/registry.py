# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Every filter and weigher by name. A new one is a file in `filters/` or `weighers/` and a line here."""

from __future__ import annotations

from collections.abc import Callable

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.context import Context
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.custom import is_custom, load_filter, load_weigher
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.filters.aggregate_core import AggregateCoreFilter
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.filters.aggregate_disk import AggregateDiskFilter
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.filters.aggregate_image_properties_isolation import AggregateImagePropertiesIsolation
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.filters.aggregate_instance_extra_specs import AggregateInstanceExtraSpecsFilter
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.filters.aggregate_io_ops import AggregateIoOpsFilter
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.filters.aggregate_multi_tenancy_isolation import AggregateMultiTenancyIsolation
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.filters.aggregate_num_instances import AggregateNumInstancesFilter
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.filters.aggregate_ram import AggregateRamFilter
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.filters.aggregate_type_affinity import AggregateTypeAffinityFilter
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.filters.availability_zone import AvailabilityZoneFilter
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.filters.base import Filter
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.filters.compute import ComputeFilter
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.filters.compute_capabilities import ComputeCapabilitiesFilter
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.filters.conflict import ConflictFilter
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.filters.core import CoreFilter
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.filters.cpu_compatibility import CpuCompatibilityFilter
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.filters.cpu_shares import CpuSharesFilter
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.filters.different_host import DifferentHostFilter
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.filters.disk import DiskFilter
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.filters.disk_space import DiskSpaceFilter
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.filters.emulator import EmulatorFilter
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.filters.firmware import FirmwareFilter
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.filters.host_cpus import HostCpusFilter
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.filters.huge_pages import HugePagesFilter
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.filters.ignore_hosts import IgnoreHostsFilter
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.filters.image_properties import ImagePropertiesFilter
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.filters.io_ops import IoOpsFilter
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.filters.isolated_hosts import IsolatedHostsFilter
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.filters.json_query import JsonFilter
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.filters.machine_type import MachineTypeFilter
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.filters.maintenance import MaintenanceFilter
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.filters.metrics import MetricsFilter
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.filters.network import NetworkFilter
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.filters.num_instances import NumInstancesFilter
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.filters.numa_topology import NUMATopologyFilter
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.filters.pci_passthrough import PciPassthroughFilter
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.filters.ram import RamFilter
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.filters.resize_to_same_host import ResizeToSameHostFilter
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.filters.retry import RetryFilter
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.filters.same_host import SameHostFilter
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.filters.server_group_affinity import ServerGroupAffinityFilter
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.filters.server_group_anti_affinity import ServerGroupAntiAffinityFilter
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.filters.simple_cidr_affinity import SimpleCIDRAffinityFilter
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.filters.storage import StorageFilter
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.filters.target_host import TargetHostFilter
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.filters.tpm import TpmFilter
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.options import Options
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.weighers.base import Weigher
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.weighers.base_image import BaseImageWeigher
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.weighers.build_failure import BuildFailureWeigher
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.weighers.cpu import CPUWeigher
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.weighers.disk import DiskWeigher
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.weighers.hypervisor_version import HypervisorVersionWeigher
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.weighers.image_properties import ImagePropertiesWeigher
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.weighers.io_ops import IoOpsWeigher
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.weighers.metrics import MetricsWeigher
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.weighers.num_instances import NumInstancesWeigher
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.weighers.pci import PCIWeigher
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.weighers.ram import RAMWeigher
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.weighers.same_host import SameHostWeigher
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.weighers.server_group_soft_affinity import ServerGroupSoftAffinityWeigher
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.weighers.server_group_soft_anti_affinity import ServerGroupSoftAntiAffinityWeigher
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.validation import ValidationError

# These speak for the caller's own words and for hosts that cannot or must not take a guest: no list of filters turns them off.
ALWAYS: tuple[type[Filter], ...] = (TargetHostFilter, IgnoreHostsFilter, ResizeToSameHostFilter, ComputeFilter, MaintenanceFilter, StorageFilter)

FILTERS: dict[str, type[Filter]] = {
    cls.__name__: cls
    for cls in (
        *ALWAYS,
        RetryFilter,
        AvailabilityZoneFilter,
        RamFilter,
        AggregateRamFilter,
        CoreFilter,
        AggregateCoreFilter,
        DiskFilter,
        AggregateDiskFilter,
        IoOpsFilter,
        AggregateIoOpsFilter,
        NumInstancesFilter,
        AggregateNumInstancesFilter,
        ComputeCapabilitiesFilter,
        ImagePropertiesFilter,
        AggregateInstanceExtraSpecsFilter,
        AggregateImagePropertiesIsolation,
        AggregateMultiTenancyIsolation,
        AggregateTypeAffinityFilter,
        IsolatedHostsFilter,
        DifferentHostFilter,
        SameHostFilter,
        SimpleCIDRAffinityFilter,
        ServerGroupAntiAffinityFilter,
        ServerGroupAffinityFilter,
        JsonFilter,
        MetricsFilter,
        NUMATopologyFilter,
        PciPassthroughFilter,
        EmulatorFilter,
        MachineTypeFilter,
        CpuCompatibilityFilter,
        CpuSharesFilter,
        HostCpusFilter,
        HugePagesFilter,
        FirmwareFilter,
        TpmFilter,
        NetworkFilter,
        DiskSpaceFilter,
        ConflictFilter,
    )
}

WEIGHERS: dict[str, type[Weigher]] = {
    cls.__name__: cls
    for cls in (
        RAMWeigher,
        CPUWeigher,
        DiskWeigher,
        IoOpsWeigher,
        NumInstancesWeigher,
        HypervisorVersionWeigher,
        BuildFailureWeigher,
        PCIWeigher,
        ServerGroupSoftAffinityWeigher,
        ServerGroupSoftAntiAffinityWeigher,
        MetricsWeigher,
        ImagePropertiesWeigher,
        BaseImageWeigher,
        SameHostWeigher,
    )
}


def filters_for(context: Context) -> list[Filter]:
    """The filters that are always on, then the enabled ones in their order, then the user's expressions."""
    options = context.options
    enabled = [_find(f"scheduler.enabled_filters[{index}]", name, FILTERS, load_filter, options) for index, name in enumerate(options.enabled_filters)]
    return [cls(context) for cls in (*dict.fromkeys((*ALWAYS, *enabled)), *_expressions(options))]


def weighers_for(context: Context) -> list[Weigher]:
    """The weighers with their multipliers."""
    options = context.options
    return [_find(f"scheduler.weighers.{name}", name, WEIGHERS, load_weigher, options)(context, multiplier) for name, multiplier in options.weighers.items()]


def _find(path: str, name: str, known: dict[str, type], load: Callable[[str, str, str | None], type], options: Options) -> type:
    if is_custom(name):
        return load(path, name, options.plugin_path)
    if name not in known:
        raise ValidationError.not_one_of(path, name, sorted(known))
    return known[name]


def _expressions(options: Options) -> list[type[Filter]]:
    if not options.custom_filters:
        return []
    # Jinja is there where Ansible is; the scheduler does without it as long as nobody writes an expression.
    from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.custom_expression import expression_filter

    return [expression_filter(given) for given in options.custom_filters]
