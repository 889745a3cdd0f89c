# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Filter plugin: the result of an operation for people."""

from __future__ import annotations

DOCUMENTATION = r"""
name: migration_lines
short_description: Say the result of an operation in short lines
version_added: 0.1.0
author: kvmfleet contributors (@kvmfleet)
description:
  - The last line is one sentence that says where the guest is, with which flavor, how long it was down, what was copied, and what waits for whom until when.
positional: _input
options:
  _input:
    description: C(kvmfleet_migration), as P(kvmfleet.compute.moved_artifact#filter) or P(kvmfleet.compute.ended_artifact#filter) makes it.
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Say what was done
  ansible.builtin.debug:
    msg: "{{ kvmfleet_migration | kvmfleet.compute.migration_lines }}"
"""

RETURN = r"""
_value:
  description: The lines.
  type: list
  elements: str
"""

from collections.abc import Callable
from typing import Any

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.artifacts.migration import lines


class FilterModule:
    """The filter of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Name to function."""
        return {"migration_lines": lines}
