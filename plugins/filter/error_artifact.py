# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Filter plugin: what a playbook that has failed leaves and says."""

from __future__ import annotations

DOCUMENTATION = r"""
name: error_artifact
short_description: Make the artifact of a playbook that has failed
version_added: 0.1.0
author: kvmfleet contributors (@kvmfleet)
description:
  - Makes C(kvmfleet_error) of the result of a failed task, or of what a role has refused with, and the lines that say it.
  - All of it is made of plain types under every ansible-core. What a task may not log, what a key calls secret, and credentials in a URL are left out.
positional: task, refusal, guest, host, begun, no_guest
options:
  _input:
    description: The variable C(ansible_failed_result).
    type: dict
    required: true
  task:
    description: The name of the task that failed.
    type: str
    default: ""
  refusal:
    description: What a role has refused with, as C(code), C(message), C(details), C(hosts), C(instance) and C(guest_is). Nothing where a task has failed.
    type: dict
  guest:
    description: The guest that the run is about.
    type: str
    default: ""
  host:
    description: The host of a run that acts on each host for itself.
    type: str
    default: ""
  begun:
    description: Whether an operation may have been begun.
    type: bool
    default: false
  no_guest:
    description: Whether the run is about no guest at all, as the preparation of a host.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Show what has failed
  ansible.builtin.debug:
    msg: "{{ (ansible_failed_result | kvmfleet.compute.error_artifact(ansible_failed_task.name)).lines }}"
"""

RETURN = r"""
_value:
  description:
    - C(artifact) is C(kvmfleet_error), with C(code), C(message), C(instance), C(guest_is) (what became of the guest), C(hosts) (the reasons of each host) and
      C(details) (numbers and names).
    - C(lines) say it, C(first) says it in one, and C(named) is the message with the name of the task.
  type: dict
"""

from collections.abc import Callable, Mapping
from typing import Any

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.artifacts import error


def _error_artifact(
    result: Mapping[str, Any],
    task: str = "",
    refusal: Mapping[str, Any] | None = None,
    guest: str = "",
    host: str = "",
    begun: bool = False,
    no_guest: bool = False,
) -> dict[str, Any]:
    artifact = error.error(result, task, refusal, instance=guest, host=host, begun=begun, no_guest=no_guest)
    named = artifact["message"] if refusal else error.named(artifact, task)
    return {"artifact": artifact, "lines": error.lines(artifact), "first": error.first(artifact), "named": named}


class FilterModule:
    """The filter of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Name to function."""
        return {"error_artifact": _error_artifact}
