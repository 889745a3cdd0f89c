# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: plan_migration
short_description: Plan a resize or a cold migration
version_added: 0.1.0
description:
  - Decides everything that can be decided before a guest is touched, and returns it as one object that check mode, diff, the printed table and the run
    all read.
  - A request that cannot be carried out is an answer with RV(_value.error), not an exception.
positional: domain, request, scheduler, hostvars, given
options:
  _input:
    description: The facts C(kvmfleet_host) of the hosts. A host without facts is given as C(host), C(up=false) and C(down_reason).
    type: list
    elements: dict
    required: true
  domain:
    description: The key C(domain) of the result of M(kvmfleet.compute.domain_info) on the host that defines the instance.
    type: dict
    required: true
  request:
    description:
      - The key C(request) of the answer of P(kvmfleet.compute.locate_instance#filter), with C(allow_resize_to_same_host), C(allow_downsize) and,
        optionally, C(grow_filesystem).
      - Without C(flavor) it is a cold migration.
    type: dict
    required: true
  scheduler:
    description: Scheduler options as in P(kvmfleet.compute.select_destinations#filter).
    type: dict
    default: {}
  hostvars:
    description:
      - The variables of all hosts. With them, the plan says of each candidate what the inventory does (RV(_value.plan.for), from C(image_directories) on).
    type: dict
  given:
    description: What the caller gave for that, C(image_directories), C(bandwidth_limit) in bytes a second and C(image_store_url). With O(hostvars).
    type: dict
author: kvmfleet contributors (@kvmfleet)
"""

EXAMPLES = r"""
- name: Plan
  ansible.builtin.set_fact:
    plan: "{{ facts | kvmfleet.compute.plan_migration(info.domain, located.request | combine({'allow_downsize': false})) }}"
"""

RETURN = r"""
_value:
  description: The plan.
  type: dict
  contains:
    error:
      description: V(null), or C(code), C(message) and C(details).
      type: dict
    plan:
      description: The plan. V(null) if there is an error.
      type: dict
      contains:
        action:
          description: V(none), V(in_place) or V(move).
          type: str
        message:
          description: What it comes to, in a sentence.
          type: str
        source:
          description: The host that defines the instance.
          type: str
        candidates:
          description: Destinations in the order in which they are asked.
          type: list
          elements: str
        for:
          description:
            - What the operation needs to know of each candidate, by its name.
            - C(ratios), the allocation ratios C(cpu), C(ram) and C(disk) that were applied. C(requirements), what it must have, as it calls it itself.
            - >-
              C(storage), what becomes of each disk there, as C(target), C(what) (V(copied), V(layered), V(left), V(created), V(re-created), V(removed) or
              V(emptied)), C(source), C(path), C(pool) and C(reason), and all that in a line of C(text).
            - >-
              C(mappings), what it calls otherwise than the guest's host, by kind (C(bridges), C(networks), C(pools), C(emulators), C(firmware)).
            - C(precopy), whether the disks are copied ahead while the guest runs (C(wanted)), and why (C(reason)). Not in place.
            - C(images_path), C(image_directories), C(reserved) and C(cpu_dedicated_set), by its facts and variables.
            - >-
              For a move C(max_moves), C(outdated) (the variables of which its facts know an older value), C(source_address), C(peer), C(bandwidth_limit) and
              C(base_sources), as P(kvmfleet.compute.base_sources#filter) returns them, each with C(name), C(address) and C(bandwidth_limit).
          type: dict
        at_source:
          description: C(image_directories) and C(max_moves) of the source. V(null) without O(hostvars).
          type: dict
        live_differences:
          description:
            - What the running guest has and its definition does not say, or the other way round, in sentences (C(found)), and what becomes of that
              (C(answer), V(keep) or V(drop)).
          type: dict
        references:
          description: >-
            What the definition refers to outside itself and what the move does about it, as C(kind), C(name), C(answer) (V(carry), V(map) or V(keep)) and
            C(reason). Empty where the guest stays on its host.
          type: list
          elements: dict
        references_text:
          description: RV(_value.plan.references) without the disks, in a line for each kind and reason.
          type: list
          elements: str
        placement:
          description: The answer of P(kvmfleet.compute.select_destinations#filter). V(null) if there is nothing to do.
          type: dict
        record:
          description: What the journals of both hosts hold of the operation. V(null) if there is nothing to do.
          type: dict
        diff:
          description: Host and flavor before and after, C(ephemeral_gib) and C(swap_mib) where there are any, and extra specs of the guest that change.
          type: dict
        grow_filesystem:
          description: Target of the disk whose filesystem is to grow inside the guest afterwards. V(null) unless C(grow_filesystem) of a resize asks for it.
          type: str
"""

from collections.abc import Mapping
from typing import Any

from ansible_collections.kvmfleet.compute.plugins.module_utils._rules.domain_facts import DomainFacts
from ansible_collections.kvmfleet.compute.plugins.module_utils._rules.host_facts import HostFacts
from ansible_collections.kvmfleet.compute.plugins.plugin_utils import run
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.planning import migration, per_host
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.planning.answer import answer
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.planning.freshness import marked


def plan_migration(
    hosts: list[HostFacts],
    domain: DomainFacts | None,
    request: dict[str, Any],
    scheduler: dict[str, Any] | None = None,
    hostvars: Mapping[str, Any] | None = None,
    given: per_host.Given | None = None,
) -> dict[str, Any]:
    """See DOCUMENTATION."""

    def decide() -> dict[str, Any]:
        plan = migration.plan_migration(marked(hosts, run.this()), domain, request, scheduler or {})
        return {"plan": plan if hostvars is None or given is None else per_host.completed(plan, hosts, hostvars, given)}

    return answer(decide, plan=None)


class FilterModule:
    """Ansible's hook."""

    def filters(self) -> dict[str, Any]:
        return {"plan_migration": plan_migration}
