# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Filter plugin: where an instance may go."""

from __future__ import annotations

DOCUMENTATION = r"""
name: select_destinations
short_description: Choose the hosts that an instance may move to
version_added: 0.1.0
author: kvmfleet contributors (@kvmfleet)
description:
  - Decides like Nova's FilterScheduler. Every filter is asked about every host, the hosts that pass all of them are weighed, and the
    answer lists the destinations best first and, for every other host, every reason why not.
  - An instance that fits nowhere is a result with RV(_value.selected) null, not an error. Malformed input is an error that names the field.
  - The filters TargetHostFilter, IgnoreHostsFilter, ResizeToSameHostFilter, ComputeFilter, MaintenanceFilter and StorageFilter are always on.
    ComputeFilter refuses hosts that are disabled or down, MaintenanceFilter those that are drained, also as the place to stay, StorageFilter those
    without the storage pools and named directories that disks lie in.
  - A filter or weigher that the request gives nothing to check takes no part. What a host does not report is not held against it by
    the filters that Nova does not have, since the claim at the destination and libvirt look again.
  - An allocation ratio is taken from the nearest place that gives one. That is the host's own value, then the lowest value in the metadata
    of its aggregates, then O(scheduler), then Nova's old default. The host wins, since what is said of one machine is more specific than
    what is said of a group; of several groups the most careful one wins. A guest never gets more than the physical total of a host,
    whatever the ratio.
positional: _input
options:
  _input:
    description:
      - The states of the hosts, as M(kvmfleet.compute.host_facts) returns them.
      - Required are C(host) and, unless C(up) is false, C(vcpus), C(vcpus_used), C(memory_mb), C(memory_mb_used), C(local_gb) and
        C(local_gb_used). Unknown keys are left alone.
    type: list
    elements: dict
    required: true
  request:
    description: What is to be placed. Unknown keys are refused.
    type: dict
    required: true
    suboptions:
      instance:
        description:
          - The instance; its C(host) is where it is now.
          - C(availability_zone) is what it was created with and decides nothing.
          - C(flavor), the flavor in force, is given back to the current host before that host is judged, since a resize in place frees it.
            Without it nothing is given back, as in Nova.
        type: dict
      flavor:
        description: The flavor to make room for, with C(vcpus), C(ram) (MiB), C(disk) (GiB), C(ephemeral) (GiB), C(swap) (MiB) and C(extra_specs).
        type: dict
        required: true
      image:
        description:
          - C(id) of the image, for IsolatedHostsFilter.
          - C(properties) of the image, such as C(hw_architecture), C(img_hv_type), C(hw_vm_mode) and C(img_hv_requested_version).
        type: dict
      project_id:
        description: The owner of the instance, for AggregateMultiTenancyIsolation.
        type: str
      availability_zone:
        description: The zone to go to, or V(any). Unset means to stay in the zone of the host that the instance is on.
        type: str
      target_host:
        description: The only host to consider. It has to pass all filters.
        type: str
      ignore_hosts:
        description: Hosts to leave out.
        type: list
        elements: str
      retry:
        description: C(hosts) that were tried already, as names or as pairs of host and node. C(num_attempts) is accepted for the record.
        type: dict
      server_group:
        description:
          - C(policy) is C(anti-affinity), C(affinity), C(soft-anti-affinity) or C(soft-affinity), C(members) are UUIDs of instances.
          - C(max_server_per_host) is how many of them a host may have under C(anti-affinity), 1 unless told.
          - The message says so when nothing that is enabled honours the policy.
        type: dict
      scheduler_hints:
        description:
          - C(different_host) and C(same_host) (UUIDs of instances), C(build_near_host_ip) with C(cidr), and C(query) for JsonFilter.
          - The message names the hints that nothing which is enabled honours.
        type: dict
      requirements:
        description:
          - What the definition and the disks of the instance need of a host. M(kvmfleet.compute.domain_info) tells, and
            P(kvmfleet.compute.plan_migration#filter) hands it over.
          - C(arch), C(virt_type), C(machine), C(emulator), C(firmware), C(loader), C(nvram_template), C(secure_boot),
            C(tpm) (C(model), C(version)), C(cpu) (C(mode), C(model), C(features)), C(cpu_shares),
            C(host_cpus) (C(cpus), C(nodes)), C(pinned_cpus) (of its current host),
            C(huge_pages) (C(page_kib), C(memory_mb), C(nodes)), C(networks), C(bridges), C(nwfilters), C(macs),
            C(exclusive) (of what else a host can have one, by kind, such as C(tcp_port)), C(pools),
            C(directories), C(overlay_bytes), C(growth_bytes) and C(bases) (C(sha256), C(size_bytes)), all optional.
          - C(named) tells by kind (C(bridges), C(networks), C(pools), C(emulators), C(firmware)) what name of the fleet some of them bear, so that a host may
            call them otherwise in its C(mappings).
        type: dict
      allow_resize_to_same_host:
        description: Whether the current host is a destination. Unset means what O(scheduler) says.
        type: bool
  scheduler:
    description: How to decide. Unknown keys are refused, a null value means the default.
    type: dict
    suboptions:
      preset:
        description:
          - Whose scheduler to be. A preset gives O(scheduler.enabled_filters), O(scheduler.weighers), the three allocation ratios,
            O(scheduler.reserved_rule), O(scheduler.allow_resize_to_same_host) and O(scheduler.prefer_same_host); each of them can be given besides.
          - V(article) is Nova as of 2014, with RetryFilter, AvailabilityZoneFilter, RamFilter, ComputeFilter, ComputeCapabilitiesFilter,
            ImagePropertiesFilter, ServerGroupAntiAffinityFilter and ServerGroupAffinityFilter, RAMWeigher, and the ratios 16.0, 1.5 and 1.0 for CPU,
            memory and disk. Nothing looks at vCPUs or disk.
          - V(nova) is today's, with RamFilter, CoreFilter and DiskFilter in the place of Placement, all of Nova's weighers with their default
            multipliers, and the ratios 4.0, 1.0 and 1.0.
          - V(fleet) is V(article) and what plain hosts need. That is CoreFilter, DiskFilter, IoOpsFilter, DifferentHostFilter, SameHostFilter,
            NUMATopologyFilter, PciPassthroughFilter, EmulatorFilter, MachineTypeFilter, CpuCompatibilityFilter, CpuSharesFilter, HostCpusFilter,
            HugePagesFilter, FirmwareFilter, TpmFilter, NetworkFilter, DiskSpaceFilter and ConflictFilter, and the weighers BaseImageWeigher (0.1, so that
            it decides among hosts that are about as free as each other), ServerGroupSoftAffinityWeigher and ServerGroupSoftAntiAffinityWeigher (1.0).
        type: str
        choices: [article, nova, fleet]
        default: fleet
      enabled_filters:
        description:
          - Names of the filters to use besides those that are always on, instead of those of the preset.
          - Besides the ones named there, there are AggregateRamFilter, AggregateCoreFilter, AggregateDiskFilter, AggregateIoOpsFilter,
            NumInstancesFilter, AggregateNumInstancesFilter, AggregateInstanceExtraSpecsFilter, AggregateImagePropertiesIsolation,
            AggregateMultiTenancyIsolation, AggregateTypeAffinityFilter, IsolatedHostsFilter, SimpleCIDRAffinityFilter, JsonFilter and MetricsFilter.
        type: list
        elements: str
      weighers:
        description:
          - Multiplier of each weigher, by name, instead of those of the preset.
          - There are RAMWeigher, CPUWeigher, DiskWeigher, IoOpsWeigher, NumInstancesWeigher, HypervisorVersionWeigher, BuildFailureWeigher, PCIWeigher,
            ServerGroupSoftAffinityWeigher, ServerGroupSoftAntiAffinityWeigher, MetricsWeigher, ImagePropertiesWeigher, BaseImageWeigher and
            SameHostWeigher.
          - Aggregate metadata such as C(ram_weight_multiplier) overrides the multiplier on the hosts of the aggregate; the lowest of several wins.
        type: dict
      cpu_allocation_ratio:
        description: vCPUs promised for each CPU of a host.
        type: float
      ram_allocation_ratio:
        description: Memory promised for each MiB of a host.
        type: float
      disk_allocation_ratio:
        description: Disk promised for each GiB of a host.
        type: float
      reserved_rule:
        description:
          - How an allocation ratio and what a host reserves for itself meet.
          - By V(ram_filter), as in Nova's RamFilter, C(total x ratio - reserved) can be promised. By V(placement) it is C((total - reserved) x ratio), which
            is less by C(reserved x (ratio - 1)).
        type: str
        choices: [ram_filter, placement]
      allow_resize_to_same_host:
        description: Whether the current host is a destination, where the request does not say. True in V(fleet), false in the other presets.
        type: bool
      prefer_same_host:
        description:
          - Whether the current host is selected before any other when it passes every filter, since growing in place copies nothing.
            True in V(fleet), false in the other presets.
          - SameHostWeigher is the gentler way to the same end.
        type: bool
      default_availability_zone:
        description: The zone of a host that has none.
        type: str
        default: nova
      max_io_ops_per_host:
        description: IoOpsFilter refuses a host with this many operations under way.
        type: int
        default: 8
      max_instances_per_host:
        description: NumInstancesFilter refuses a host with this many guests.
        type: int
        default: 50
      isolated_hosts:
        description: Hosts for O(scheduler.isolated_images), for IsolatedHostsFilter.
        type: list
        elements: str
      isolated_images:
        description: Images that go to O(scheduler.isolated_hosts) only.
        type: list
        elements: str
      restrict_isolated_hosts_to_isolated_images:
        description: Whether other images are kept away from O(scheduler.isolated_hosts).
        type: bool
        default: true
      image_properties_default_architecture:
        description: The architecture of images that name none, for ImagePropertiesFilter.
        type: str
      metrics_weight_setting:
        description: Ratio of each metric, by name. MetricsFilter wants them all, MetricsWeigher adds them up.
        type: dict
      metrics_required:
        description: Whether a host without one of the metrics is an error for MetricsWeigher.
        type: bool
        default: true
      metrics_weight_of_unavailable:
        description: What MetricsWeigher gives such a host otherwise.
        type: float
        default: -10000.0
      image_props_weight_setting:
        description: Ratio of each image property that ImagePropertiesWeigher counts. Without it, all of them count alike.
        type: dict
      pci_alias:
        description: C(vendor_id) and C(product_id) of the devices that the extra spec C(pci_passthrough:alias) asks for, by name.
        type: dict
      allow_unlike_cpu:
        description: Whether an instance that sees the CPU of its host (C(host-passthrough)) may move between hosts whose CPUs differ.
        type: bool
        default: false
      plugin_path:
        description: Directory of filters and weighers of your own, for names such as C(rack.RackFilter).
        type: path
      custom_filters:
        description:
          - Filters of your own that are an expression in Jinja over C(host) and C(request). They come after O(scheduler.enabled_filters).
          - Each has a C(name), an C(expression) that is true for a host that may take the instance, and a C(reason) for the others.
        type: list
        elements: dict
      host_subset_size:
        description: Draw the destination from this many of the best hosts.
        type: int
        default: 1
      shuffle_best_same_weighed_hosts:
        description: Shuffle the hosts that weigh the same as the best one.
        type: bool
        default: false
      shuffle_seed:
        description: Makes a drawn or shuffled decision repeatable. Unset means another draw each time.
        type: raw
      max_attempts:
        description: The destination and its alternates together are at most this many.
        type: int
        default: 3
seealso:
  - plugin: kvmfleet.compute.placement_table
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Choose a destination in the zone that the guest is in
  ansible.builtin.set_fact:
    placement: "{{ states | kvmfleet.compute.select_destinations(request, {'ram_allocation_ratio': 1.2}) }}"
  vars:
    states: "{{ groups['compute'] | map('extract', hostvars, 'kvmfleet_host') | list }}"
    request:
      instance:
        name: web1
        host: kvm1
      flavor:
        vcpus: 4
        ram: 8192
        disk: 40

- name: Stop with every reason when there is no room
  ansible.builtin.assert:
    that: placement.selected is not none
    fail_msg: "{{ placement.message }}"
"""

RETURN = r"""
_value:
  description: The decision, made of plain JSON types.
  type: dict
  contains:
    selected:
      description: The destination; null when no host fits.
      type: str
      sample: kvm2
    alternates:
      description: The next best hosts, for when the destination refuses the claim.
      type: list
      elements: str
      sample: [kvm4]
    ranked:
      description:
        - Every host that fits, best first, with its C(host), its C(weight) and, for each weigher, C(raw), C(normalized) and C(multiplier) in C(weights).
        - With O(scheduler.prefer_same_host) the current host is first if it fits, whatever its weight. A host that is alone is not weighed.
      type: list
      elements: dict
      sample:
        - host: kvm2
          weight: 1.0
          weights: {RAMWeigher: {raw: 12288, normalized: 1.0, multiplier: 1.0}}
        - host: kvm4
          weight: 0.5
          weights: {RAMWeigher: {raw: 6144, normalized: 0.5, multiplier: 1.0}}
    rejected:
      description:
        - For every other host its rejections, one for each filter that refuses it, with C(filter), C(code), C(reason), C(need) and C(have).
        - The codes of the filters that are always on are C(not_target_host), C(ignored_host), C(same_host), C(disabled), C(down), C(maintenance) and
          C(storage).
        - Nova's filters give C(already_tried), C(other_zone), C(zone_unknown), C(ram), C(vcpus), C(disk), C(io_ops), C(num_instances), C(capability),
          C(image_properties), C(aggregate_extra_specs), C(image_isolation), C(tenant_isolation), C(flavor_isolation), C(isolated_image),
          C(isolated_host), C(different_host), C(same_host_hint), C(cidr), C(anti_affinity), C(affinity), C(json_query), C(metrics), C(numa) and C(pci).
        - The others give C(virt_type), C(emulator), C(machine_type), C(cpu_features), C(cpu_model), C(cpu_unlike), C(cpu_shares), C(firmware), C(tpm),
          C(network), C(disk_space), C(already_defined) and C(mac_in_use).
      type: dict
      sample:
        kvm1:
          - filter: RamFilter
            code: ram
            reason: needs 8192 MB, 6144 MB left of 12288 MB (8192 MB x 1.5), 6144 MB used
            need: 8192
            have: 6144
    suggestions:
      description:
        - When no host fits, what would make one, each with its C(kind), C(hosts) and C(text). A C(zone) names the zone, C(drain) the guest to move
          away, C(flavor) the sizes that there is room for.
        - The other kinds are codes of RV(_value.rejected), for hosts that have no other reason against them.
      type: list
      elements: dict
      sample:
        - kind: zone
          zone: az2
          hosts: [kvm3]
          text: "zone az2: kvm3"
    seed:
      description: What a draw started from, by O(scheduler.host_subset_size) or O(scheduler.shuffle_best_same_weighed_hosts); null where nothing is drawn.
      type: raw
    message:
      description: The decision in words. When no host fits, a line for each host follows, then the suggestions.
      type: str
"""

from collections.abc import Callable
from typing import Any

from ansible.errors import AnsibleFilterError

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.select import select_destinations
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.validation import ValidationError


def _select_destinations(hosts: Any, request: Any, scheduler: Any = None) -> dict[str, Any]:
    try:
        return select_destinations(hosts, request, scheduler)
    except ValidationError as error:
        raise AnsibleFilterError(f"select_destinations: {error}") from error


class FilterModule:
    """The filter of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Name to function."""
        return {"select_destinations": _select_destinations}
