# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Filter plugin: hosts whose facts must not be decided from."""

from __future__ import annotations

DOCUMENTATION = r"""
name: without_fresh_facts
short_description: Name the hosts whose facts were not gathered in this run
version_added: 0.1.0
author: kvmfleet contributors (@kvmfleet)
description:
  - Facts may come from a cache, and are then those of another run, however long ago. Facts tell in which run they were gathered.
  - With O(max_age) facts of other runs count where the clock of the same controller was read for them, since its last start, and is not before that.
positional: names, max_age
options:
  _input:
    description: The facts C(kvmfleet_host) of the hosts that have any.
    type: list
    elements: dict
    required: true
  names:
    description: The hosts.
    type: list
    elements: str
    required: true
  max_age:
    description: Seconds that facts of other runs may be old.
    type: float
    default: 0
"""

EXAMPLES = r"""
- name: Who has to be asked?
  ansible.builtin.debug:
    msg: "{{ hostvars | kvmfleet.compute.fleet_facts(groups['compute']) | kvmfleet.compute.without_fresh_facts(groups['compute'], 600) }}"
"""

RETURN = r"""
_value:
  description: The hosts that have no facts, or none that may be decided from.
  type: list
  elements: str
"""

from collections.abc import Callable
from typing import Any

from ansible_collections.kvmfleet.compute.plugins.plugin_utils import run
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.planning import freshness


def _without_fresh_facts(facts: list[dict[str, Any]], names: list[str], max_age: float = 0) -> list[str]:
    return freshness.old(names, facts, run.this(), float(max_age))


class FilterModule:
    """The filter of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Name to function."""
        return {"without_fresh_facts": _without_fresh_facts}
