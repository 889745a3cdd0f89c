# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: fleet_status
short_description: Show the capacity of the fleet and its open migrations as text
version_added: 0.1.0
description:
  - Turns the facts of all compute hosts into two tables. The first has one line for each host with what is promised of its capacity, the second one
    line for each open migration with what it waits for.
positional: _input
options:
  _input:
    description: The facts C(kvmfleet_host) of the hosts. A host without facts is given as C(host), C(up=false) and C(down_reason).
    type: list
    elements: dict
    required: true
author: kvmfleet contributors (@kvmfleet)
"""

EXAMPLES = r"""
- name: Show the state of the fleet
  ansible.builtin.debug:
    msg: "{{ (facts | kvmfleet.compute.fleet_status).splitlines() }}"
  vars:
    facts: "{{ groups['compute'] | map('extract', hostvars, 'kvmfleet_host') }}"
"""

RETURN = r"""
_value:
  description: The tables, lines separated by newlines. Capacity is shown as used/total, what a host reserves for itself is used.
  type: str
  sample: |-
    host  zone   vCPUs  RAM MiB     disk GiB    guests  state
    kvm1  north  1/8    1280/16384  21.0/200.0  1       up
    kvm2  north  2/8    2560/32768  40.0/400.0  1       up
    kvm3  south  -      -           -           -       down: Connection timed out

    instance  type    status    step      from -> to    since (UTC)          waits for
    web1      resize  finished  finished  kvm1 -> kvm2  2026-11-23 16:05:12  confirm or revert
"""

from typing import Any

from ansible.errors import AnsibleFilterError

from ansible_collections.kvmfleet.compute.plugins.module_utils._rules.errors import KvmfleetError
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.planning import status


def fleet_status(hosts: list[dict[str, Any]]) -> str:
    """See DOCUMENTATION."""
    try:
        return status.fleet_status(hosts)
    except KvmfleetError as refusal:
        raise AnsibleFilterError(refusal.message) from refusal


class FilterModule:
    """Ansible's hook."""

    def filters(self) -> dict[str, Any]:
        return {"fleet_status": fleet_status}
