# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Filter plugin: what an operation that was undone, settled or left open leaves for other jobs."""

from __future__ import annotations

DOCUMENTATION = r"""
name: ended_artifact
short_description: Make the artifact of an operation that was undone, settled or left open
version_added: 0.1.0
author: kvmfleet contributors (@kvmfleet)
description:
  - Makes C(kvmfleet_migration) of an operation that is not a move just made, of plain types under every ansible-core.
positional: status, reason
options:
  _input:
    description: A decision of P(kvmfleet.compute.decide_migrations#filter), or C(instance_name), C(migration_uuid) and what else is known.
    type: dict
    required: true
  status:
    description: What the operation is left with.
    type: str
    choices: [finished, nothing_to_do, error, unknown, confirmed, reverted]
    required: true
  reason:
    description: Why.
    type: str
    default: ""
"""

EXAMPLES = r"""
- name: Hand on that the operation is confirmed
  ansible.builtin.set_stats:
    data:
      kvmfleet_migration: "{{ decision | kvmfleet.compute.ended_artifact('confirmed') }}"
    per_host: false
    aggregate: false
"""

RETURN = r"""
_value:
  description:
    - C(instance), C(migration_uuid), C(migration_type), C(status), C(outcome) (V(moved), V(nothing_to_do), V(undone), V(open), V(confirmed) or V(reverted)),
      C(source), C(destination), C(in_place) and C(reason).
  type: dict
"""

from collections.abc import Callable
from typing import Any

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.artifacts.migration import ended


class FilterModule:
    """The filter of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Name to function."""
        return {"ended_artifact": ended}
