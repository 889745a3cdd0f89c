# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Filter plugin: how many more instances of a flavor there is room for."""

from __future__ import annotations

DOCUMENTATION = r"""
name: fleet_capacity
short_description: Count how many more instances of a flavor fit
version_added: 0.1.0
author: kvmfleet contributors (@kvmfleet)
description:
  - Counts for each host, and sums up for each zone, how many instances like that of a request fit beside all that is there. Every enabled filter is asked.
positional: _input
options:
  _input:
    description: The states of the hosts, as in P(kvmfleet.compute.select_destinations#filter).
    type: list
    elements: dict
    required: true
  request:
    description:
      - What is to be counted, as O(kvmfleet.compute.select_destinations#filter:request). Only C(flavor) is required.
      - A request without C(availability_zone) counts in all zones.
    type: dict
    required: true
  scheduler:
    description: How to decide, as O(kvmfleet.compute.select_destinations#filter:scheduler).
    type: dict
seealso:
  - plugin: kvmfleet.compute.select_destinations
    plugin_type: filter
"""

EXAMPLES = r"""
- name: How many more guests of 2 vCPUs and 4 GiB fit in each zone
  ansible.builtin.debug:
    var: (groups['compute'] | map('extract', hostvars, 'kvmfleet_host') | list | kvmfleet.compute.fleet_capacity(request)).zones
  vars:
    request:
      flavor:
        vcpus: 2
        ram: 4096
        disk: 20
"""

RETURN = r"""
_value:
  description: The counts.
  type: dict
  contains:
    guests:
      description: In all.
      type: int
      sample: 10
    zones:
      description: For each zone C(guests), and C(hosts) that take at least one.
      type: dict
      sample: {az1: {guests: 8, hosts: 2}, az2: {guests: 2, hosts: 1}}
    hosts:
      description: For each host that takes at least one.
      type: dict
      sample: {kvm1: 6, kvm2: 2, kvm3: 2}
"""

from collections.abc import Callable
from typing import Any

from ansible.errors import AnsibleFilterError

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.capacity import count_fitting
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.validation import ValidationError


def _fleet_capacity(hosts: Any, request: Any, scheduler: Any = None) -> dict[str, Any]:
    try:
        return count_fitting(hosts, request, scheduler)
    except ValidationError as error:
        raise AnsibleFilterError(f"fleet_capacity: {error}") from error


class FilterModule:
    """The filter of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Name to function."""
        return {"fleet_capacity": _fleet_capacity}
