# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Filter plugin: which objects of AWX can be looked at in check mode."""

from __future__ import annotations

DOCUMENTATION = r"""
name: awx_ready
short_description: Choose the objects of AWX whose parts are there
version_added: 0.1.0
author: kvmfleet contributors (@kvmfleet)
description:
  - Nothing is made in check mode, so that a module of C(awx.awx) would fail for an object that names one which AWX does not have yet.
positional: results
options:
  _input:
    description: Objects of one kind, as P(kvmfleet.compute.awx_objects#filter) describes them.
    type: list
    elements: dict
    required: true
  results:
    description: What the modules that looked at the objects before them have returned, by kind.
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Show which nodes of workflows can be looked at
  ansible.builtin.debug:
    msg: "{{ objects.workflow_nodes | kvmfleet.compute.awx_ready({'workflows': made}) }}"
"""

RETURN = r"""
_value:
  description: Those whose parts are there.
  type: list
  elements: dict
"""

from collections.abc import Callable
from typing import Any

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.awx.ready import ready


class FilterModule:
    """The filter of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Name to function."""
        return {"awx_ready": ready}
