# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Filter plugin: a placement decision as a table."""

from __future__ import annotations

DOCUMENTATION = r"""
name: placement_table
short_description: Show a placement decision as a table
version_added: 0.1.0
author: kvmfleet contributors (@kvmfleet)
description:
  - Turns the result of P(kvmfleet.compute.select_destinations#filter) into lines of text, one for each host.
  - The destination comes first, then its alternates and the other hosts that fit, then every reason against the rest.
positional: _input
options:
  _input:
    description: The result of P(kvmfleet.compute.select_destinations#filter).
    type: dict
    required: true
  hosts:
    description: The host states of the decision. When given, the table has a column with the zones.
    type: list
    elements: dict
seealso:
  - plugin: kvmfleet.compute.select_destinations
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Show where the guest would go, and why
  ansible.builtin.debug:
    msg: "{{ placement | kvmfleet.compute.placement_table(states) | split('\n') }}"
"""

RETURN = r"""
_value:
  description: The table, lines separated by newlines.
  type: str
  sample: |-
    host  zone  verdict
    kvm2  az1   selected weight 1.00
    kvm4  az1   alternate weight 0.50
    kvm1  az1   RamFilter: needs 8192 MB, 6144 MB left of 12288 MB (8192 MB x 1.5), 6144 MB used
    kvm3  az2   AvailabilityZoneFilter: is in zone az2; the guest stays in zone az1 of its current host kvm1
"""

from collections.abc import Callable
from typing import Any

from ansible.errors import AnsibleFilterError

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.table import placement_table
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.validation import ValidationError


def _placement_table(result: Any, hosts: Any = None) -> str:
    try:
        return placement_table(result, hosts)
    except ValidationError as error:
        raise AnsibleFilterError(f"placement_table: {error}") from error


class FilterModule:
    """The filter of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Name to function."""
        return {"placement_table": _placement_table}
