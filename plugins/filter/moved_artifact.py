# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Filter plugin: what a move that has come to its end leaves for other jobs."""

from __future__ import annotations

DOCUMENTATION = r"""
name: moved_artifact
short_description: Make the artifact of a move or a resize in place
version_added: 0.1.0
author: kvmfleet contributors (@kvmfleet)
description:
  - Makes C(kvmfleet_migration) of what the tasks of an operation said. Numbers are numbers under every ansible-core.
positional: destination, migration_uuid, told, window
options:
  _input:
    description: The plan.
    type: dict
    required: true
  destination:
    description: The host that has the guest now.
    type: str
    required: true
  migration_uuid:
    description: UUID of the operation.
    type: str
    required: true
  told:
    description: >-
      C(sealed), C(started), C(channel), C(ahead), C(rounds), C(frozen), C(quiesced), C(shared), C(tunnel), C(obtained), C(passed_over) and C(filesystem), as
      the tasks said it.
    type: dict
    required: true
  window:
    description: Seconds after which C(auto_confirm) confirms it, 0 for never.
    type: float
    default: 0
"""

EXAMPLES = r"""
- name: Hand the result on
  ansible.builtin.set_stats:
    data:
      kvmfleet_migration: "{{ plan | kvmfleet.compute.moved_artifact('kvm2', uuid, told) }}"
    per_host: false
    aggregate: false
"""

RETURN = r"""
_value:
  description:
    - C(instance), C(migration_uuid), C(migration_type), C(status), C(outcome) (V(moved)), C(source), C(destination), C(in_place), C(old_flavor), C(new_flavor),
      C(precopy), C(overlay_bytes), C(resumed_bytes), C(shared_disks), C(bandwidth_limit), C(transport), C(tunnel), C(copied_by), C(base_bytes), C(bases),
      C(bases_passed_over), C(was_running), C(live_differences) (C(answer), C(found)), C(stopped_by), C(downtime_seconds), C(agent_answered), C(filesystem) and
      C(auto_confirm_at).
  type: dict
"""

from collections.abc import Callable
from typing import Any

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.artifacts.migration import moved


class FilterModule:
    """The filter of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Name to function."""
        return {"moved_artifact": moved}
