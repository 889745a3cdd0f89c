# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Filter plugin: where several instances may go together."""

from __future__ import annotations

DOCUMENTATION = r"""
name: select_destinations_batch
short_description: Choose hosts for several instances together
version_added: 0.1.0
author: kvmfleet contributors (@kvmfleet)
description:
  - Places a list of requests so that each sees the claims of those before it. The answer proves that there is room for all of them together, or
    names those that there is none for. No host is ever promised more than it has.
  - The largest request is placed first, by its greatest share of the fleet's vCPUs, memory or disk. If some find no room, they are tried again
    before all others, up to three times; the round that places most counts. Not to find room is no proof that there is none in another order.
  - An instance is charged at its destination and stays charged at its source, as it is until its move is confirmed. A resize in place gives the
    flavor in force back, where the request tells it.
  - Operations under way are not counted up for IoOpsFilter, since a batch is carried out over time.
positional: _input
options:
  _input:
    description: The states of the hosts, as in P(kvmfleet.compute.select_destinations#filter).
    type: list
    elements: dict
    required: true
  requests:
    description: What is to be placed, each as O(kvmfleet.compute.select_destinations#filter:request).
    type: list
    elements: dict
    required: true
  scheduler:
    description: How to decide, as O(kvmfleet.compute.select_destinations#filter:scheduler).
    type: dict
seealso:
  - plugin: kvmfleet.compute.select_destinations
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Is there room elsewhere for every guest of a host
  ansible.builtin.assert:
    that: (states | kvmfleet.compute.select_destinations_batch(requests)).fits
    fail_msg: "{{ (states | kvmfleet.compute.select_destinations_batch(requests)).message }}"
  vars:
    states: "{{ groups['compute'] | map('extract', hostvars, 'kvmfleet_host') | list }}"
    requests:
      - instance: {name: web1, host: kvm1}
        flavor: {vcpus: 4, ram: 8192, disk: 40}
        ignore_hosts: [kvm1]
      - instance: {name: web2, host: kvm1}
        flavor: {vcpus: 2, ram: 4096, disk: 20}
        ignore_hosts: [kvm1]
"""

RETURN = r"""
_value:
  description: The decision, made of plain JSON types.
  type: dict
  contains:
    fits:
      description: Whether there is room for all.
      type: bool
    placements:
      description:
        - The requests that found room, in the order in which they were decided, with C(index) in O(requests), C(instance), C(source), C(selected),
          C(alternates) and C(weight).
      type: list
      elements: dict
      sample: [{index: 0, instance: web1, source: kvm1, selected: kvm2, alternates: [kvm4], weight: 1.0}]
    unplaced:
      description: The requests that found none, with C(index), C(instance), C(source), C(rejected) and C(message).
      type: list
      elements: dict
    usage:
      description: What the hosts that got an instance are charged with afterwards.
      type: dict
      sample: {kvm2: {vcpus_used: 6, memory_mb_used: 12800, local_gb_used: 60.0}}
    message:
      description: The decision in words.
      type: str
"""

from collections.abc import Callable
from typing import Any

from ansible.errors import AnsibleFilterError

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.batch import place_together
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.validation import ValidationError


def _select_destinations_batch(hosts: Any, requests: Any, scheduler: Any = None) -> dict[str, Any]:
    try:
        return place_together(hosts, requests, scheduler)
    except ValidationError as error:
        raise AnsibleFilterError(f"select_destinations_batch: {error}") from error


class FilterModule:
    """The filter of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Name to function."""
        return {"select_destinations_batch": _select_destinations_batch}
