# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Filter plugin: what a run leaves that could not end some of its operations."""

from __future__ import annotations

DOCUMENTATION = r"""
name: several_errors
short_description: Make one error of those of several operations
version_added: 0.1.0
author: kvmfleet contributors (@kvmfleet)
description:
  - Makes one error of what kept a run from ending some of its operations, all of which it has tried. Every one of them is named.
positional: meant, waiting, code
options:
  _input:
    description: An error of P(kvmfleet.compute.error_artifact#filter) for each operation that failed, with its C(migration_uuid).
    type: list
    elements: dict
    required: true
  meant:
    description: How many operations were to be ended.
    type: int
    required: true
  waiting:
    description: Decisions of P(kvmfleet.compute.decide_migrations#filter) to leave an operation as it is.
    type: list
    elements: dict
    default: []
  code:
    description: The code of the whole. Without it that of all of them if they have the same one, else V(not_settled).
    type: str
    default: ""
"""

EXAMPLES = r"""
- name: Show what could not be ended
  ansible.builtin.debug:
    msg: "{{ (failed | kvmfleet.compute.several_errors(3)).message.splitlines() }}"
"""

RETURN = r"""
_value:
  description:
    - C(code), C(message), C(instance) (all of them), C(guest_is), C(hosts) and C(details), as in C(kvmfleet_error). C(details) has C(migration_uuids), and in
      C(operations) the C(instance), C(code) and C(message) of each. Where only one operation was meant, it is the error of that one.
  type: dict
"""

from collections.abc import Callable
from typing import Any

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.artifacts.error import several


class FilterModule:
    """The filter of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Name to function."""
        return {"several_errors": several}
