# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: decide_migrations
short_description: Decide what to do with open operations
version_added: 0.1.0
description:
  - Looks at the journals of all hosts and at what their libvirt says, and decides for each open operation whether it is to be confirmed, reverted,
    brought forward or taken back.
  - Decides too about operations that were ended without a lost host, should that host come back.
  - What is wrong is returned as RV(_value.error), not raised.
positional: verb, instance, migration_uuid, lost_host
options:
  _input:
    description: The facts C(kvmfleet_host) of the hosts. A host without facts is given as C(host), C(up=false) and C(down_reason).
    type: list
    elements: dict
    required: true
  verb:
    description: What was asked for.
    type: str
    choices: [recover, confirm, revert]
    required: true
  instance:
    description:
      - Name or UUID of an instance. Without it, the decision is about all open operations, which only V(recover) allows, or about that of
        O(migration_uuid).
    type: str
  migration_uuid:
    description: Only this operation.
    type: str
  lost_host:
    description:
      - Name of a host that is gone for good, so that operations are brought to an end without it. It must not answer, and it must be the source or the
        destination.
    type: str
author: kvmfleet contributors (@kvmfleet)
"""

EXAMPLES = r"""
- name: What would recover do?
  ansible.builtin.debug:
    msg: "{{ facts | kvmfleet.compute.decide_migrations('recover') }}"
"""

RETURN = r"""
_value:
  description: The decisions.
  type: dict
  contains:
    error:
      description: V(null), or C(code), C(message) and C(details).
      type: dict
    decisions:
      description:
        - One mapping for each operation that is meant, with C(action) (V(none), V(wait), V(back), V(forward), V(confirm), V(revert), V(discard) or
          V(release)), C(reason), C(migration_uuid), C(instance_name), C(in_place), C(source), C(destination), C(source_open), C(destination_open),
          C(status), C(updated_at) (seconds since the epoch), C(age) (seconds since then by the clock of the host that noted it, or V(null)), C(clock)
          (whose clock was set since, or V(null)), C(settled) and C(stray).
        - C(gone) is the owner whose run one of its hosts has seen go, so that nobody waits for its lease, and C(worked_on) the run that still works on it,
          in words, with how far its copy is. Each is V(null) otherwise.
        - C(lost_host) is the host without which it is acted, C(survivor) the host that ended the operation, or began to, without the other one,
          which answers again, and C(settled_as) the status that it ended with there. Each is V(null) otherwise.
      type: list
      elements: dict
"""

from typing import Any

from ansible_collections.kvmfleet.compute.plugins.plugin_utils import run
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.planning import recovery
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.planning.answer import answer
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.planning.freshness import marked
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.planning.request import check_request


def decide_migrations(
    hosts: list[dict[str, Any]], verb: str, instance: str | None = None, migration_uuid: str | None = None, lost_host: str | None = None
) -> dict[str, Any]:
    """See DOCUMENTATION."""

    def decide() -> dict[str, Any]:
        unnamed = instance in (None, "") and (verb == "recover" or migration_uuid is not None)
        name = None if unnamed else check_request({"instance": instance}, [])["instance"]
        return {"decisions": recovery.decide(marked(hosts, run.this()), str(verb), name, migration_uuid, str(lost_host) if lost_host else None)}

    return answer(decide, decisions=[])


class FilterModule:
    """Ansible's hook."""

    def filters(self) -> dict[str, Any]:
        return {"decide_migrations": decide_migrations}
