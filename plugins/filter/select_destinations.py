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
  - The filters TargetHostFilter, IgnoreHostsFilter, ResizeToSameHostFilter and ComputeFilter are always on. ComputeFilter refuses hosts
    that are disabled or down, also as the place to stay.
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
        description: C(properties) of the image, such as C(hw_architecture), C(img_hv_type), C(hw_vm_mode) and C(img_hv_requested_version).
        type: dict
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
        description: Accepted; the message says so when no enabled filter honours it.
        type: dict
      scheduler_hints:
        description: Accepted; the message says so when no enabled filter honours them.
        type: dict
      allow_resize_to_same_host:
        description: Whether the current host is a destination. When it is and passes every filter, it is selected before any other.
        type: bool
        default: true
  scheduler:
    description: How to decide. Unknown keys are refused, a null value means the default.
    type: dict
    suboptions:
      enabled_filters:
        description:
          - Names of the filters to use besides those that are always on.
          - The default is RetryFilter, AvailabilityZoneFilter, RamFilter, ComputeFilter, ComputeCapabilitiesFilter, ImagePropertiesFilter,
            CoreFilter, DiskFilter and IoOpsFilter.
        type: list
        elements: str
      weighers:
        description:
          - Multiplier of each weigher, by name. The default is RAMWeigher with 1.0.
          - The aggregate metadata C(ram_weight_multiplier) overrides it on the hosts of the aggregate; the lowest of several wins.
        type: dict
      cpu_allocation_ratio:
        description: vCPUs promised for each CPU of a host.
        type: float
        default: 16.0
      ram_allocation_ratio:
        description: Memory promised for each MiB of a host.
        type: float
        default: 1.5
      disk_allocation_ratio:
        description: Disk promised for each GiB of a host.
        type: float
        default: 1.0
      default_availability_zone:
        description: The zone of a host that has none.
        type: str
        default: nova
      max_io_ops_per_host:
        description: IoOpsFilter refuses a host with this many operations under way.
        type: int
        default: 8
      max_instances_per_host:
        description: Accepted for a filter to come.
        type: int
        default: 50
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
        - The current host is first if it fits, whatever its weight. A host that is alone is not weighed.
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
        - The codes are C(not_target_host), C(ignored_host), C(same_host), C(disabled), C(down), C(already_tried), C(other_zone),
          C(zone_unknown), C(ram), C(vcpus), C(disk), C(io_ops), C(capability) and C(image_properties).
      type: dict
      sample:
        kvm1:
          - filter: RamFilter
            code: ram
            reason: needs 8192 MB, 6144 MB left of 12288 MB (8192 MB x 1.5), 6144 MB used
            need: 8192
            have: 6144
    message:
      description: The decision in words. When no host fits, a line for each host follows.
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
