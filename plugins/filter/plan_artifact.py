# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Filter plugin: what a plan leaves for other jobs."""

from __future__ import annotations

DOCUMENTATION = r"""
name: plan_artifact
short_description: Make the artifact of a plan
version_added: 0.1.0
author: kvmfleet contributors (@kvmfleet)
description:
  - Makes C(kvmfleet_plan) of what P(kvmfleet.compute.plan_migration#filter) has planned, of plain types under every ansible-core.
  - What an approval shows is in it. The definition of the guest is not.
positional: instance
options:
  _input:
    description: The plan.
    type: dict
    required: true
  instance:
    description: The guest.
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Hand the plan on
  ansible.builtin.set_stats:
    data:
      kvmfleet_plan: "{{ planned.plan | kvmfleet.compute.plan_artifact('web1') }}"
    per_host: false
    aggregate: false
"""

RETURN = r"""
_value:
  description:
    - C(instance), C(action) (V(none), V(in_place) or V(move)), C(migration_type), C(message), C(source), C(destination), C(candidates), C(diff), C(precopy),
      C(disks), C(references), C(hosts) (what placement says of each host) and C(grow_filesystem).
  type: dict
"""

from collections.abc import Callable
from typing import Any

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.artifacts.plan import planned


class FilterModule:
    """The filter of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Name to function."""
        return {"plan_artifact": planned}
