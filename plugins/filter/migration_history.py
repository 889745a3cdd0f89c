# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: migration_history
short_description: Put the journals of all hosts together to the history of operations
version_added: 0.1.0
description:
  - Every operation has a record at each of its hosts, under the same UUID. This shows what they say as one, also after the operation has ended.
positional: _input
options:
  _input:
    description:
      - For each host C(host) and C(migrations), what M(kvmfleet.compute.migration_info) returns with C(open_only=false) and C(history=true).
      - A host that did not answer is given as C(host), C(up=false) and C(down_reason).
    type: list
    elements: dict
    required: true
  detailed:
    description: Let the text show every step.
    type: bool
    default: false
author: kvmfleet contributors (@kvmfleet)
"""

EXAMPLES = r"""
- name: Show who has done what to web1
  ansible.builtin.debug:
    msg: "{{ (journals | kvmfleet.compute.migration_history(detailed=true)).text.splitlines() }}"
"""

RETURN = r"""
_value:
  description: The history.
  type: dict
  contains:
    operations:
      description:
        - One mapping for each operation, oldest first, with C(migration_uuid), C(instance_name), C(instance_uuid), C(migration_type), C(source),
          C(destination), C(in_place), C(status), C(began_at), C(ended_at) (V(null) while it is open), C(requested_by) (C(user), C(job), C(schedule),
          C(workflow_job)), C(reason), C(settled_by) (the same of the latest run that confirmed, reverted or recovered it, or V(null)), C(error),
          C(forced) (the host that was given up as lost, by whom and why, or V(null)) and C(steps).
        - Each of the C(steps) has C(at), C(host), C(status), C(step) and, where there is one, C(note), C(by) and C(reason). Times are seconds since the
          epoch by the clock of their host.
      type: list
      elements: dict
    text:
      description: The same as a table, lines separated by newlines.
      type: str
"""

from typing import Any

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.planning import history
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.planning.answer import answer


def migration_history(journals: list[dict[str, Any]], detailed: bool = False) -> dict[str, Any]:
    """See DOCUMENTATION."""
    found = answer(lambda: {"operations": history.operations(journals), "text": history.history(journals, bool(detailed))})
    return {key: found[key] for key in ("operations", "text")}


class FilterModule:
    """Ansible's hook."""

    def filters(self) -> dict[str, Any]:
        return {"migration_history": migration_history}
