# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: plan_drain
short_description: Plan how hosts are emptied
version_added: 0.1.0
author: kvmfleet contributors (@kvmfleet)
description:
  - Gives every guest of the hosts a class, proves a place for all that move together, and puts the moves into an order.
  - A drain that cannot be carried out is an answer with C(fits=false), in which each guest that keeps it from beginning is named with its numbers.
  - Charges count at both ends, as they do until a move is confirmed. What drains of other hosts are still going to move counts at its destinations.
  - Nothing is asked of any host.
positional: hosts, described, options, scheduler
options:
  _input:
    description: The facts C(kvmfleet_host) of the hosts. A host without facts is given as C(host), C(up=false) and C(down_reason).
    type: list
    elements: dict
    required: true
  hosts:
    description: Names of the hosts that are to be emptied.
    type: list
    elements: str
    required: true
  described:
    description:
      - For each of O(hosts) C(host) and C(guests), the key C(domains) of the result of M(kvmfleet.compute.domain_info) where that is given no name.
      - With C(eject) the same of other hosts, of whose guests one may make room. Guests of hosts that are not described are not moved.
    type: list
    elements: dict
    required: true
  options:
    description: What the drain was told. What is null or empty counts as not given.
    type: dict
    default: {}
    suboptions:
      reason:
        description: Why the hosts are emptied.
        type: str
      until:
        description: V(evacuated) or V(empty).
        type: str
        default: evacuated
      on_unmovable:
        description: What becomes of guests that cannot be moved. V(refuse) begins nothing.
        type: str
        choices: [refuse, stop, leave]
        default: refuse
      policies:
        description:
          - Names, UUIDs or shell patterns of guests with a policy for this run, V(move), V(stop), V(leave) or V(refuse), or a mapping with C(policy),
            C(priority) (the greater one goes first), C(after) (names or patterns of guests that have to run again before), C(window) (such as
            V(Sat 02:00-05:00), in UTC, or a list), C(max_downtime) (seconds) and C(approval).
          - Each key is taken from the nearest place that has it. The places are this run, the metadata of the guest (C(policy) of its entry in the facts),
            its host, its zone, and the fleet. Within a place the least disruptive of those that mean the guest holds, in the order V(refuse), V(leave),
            V(move), V(stop).
        type: dict
      host_policies:
        description: C(kvmfleet_guest_policies) of hosts, by host.
        type: dict
      zone_policies:
        description: C(kvmfleet_guest_policies) of zones, by zone.
        type: dict
      guest_policies:
        description: C(kvmfleet_guest_policies) of the fleet.
        type: dict
      approve:
        description: Names or patterns of guests whose policy asks for approval.
        type: list
        elements: str
      canary:
        description: How many guests go alone first, the smallest that run.
        type: int
        default: 1
      eject:
        description: Whether one guest of another host may be moved, and confirmed, to make room for one that finds none.
        type: bool
        default: false
      live_differences:
        description: V(keep) or V(drop), as in P(kvmfleet.compute.plan_migration#filter).
        type: str
      server_groups:
        description: C(kvmfleet_server_groups).
        type: dict
      downtimes:
        description: Seconds that guests were down when they were moved last, by UUID.
        type: dict
      max_downtime:
        description: Seconds that a guest may be down, where no policy says another number. A guest that was down longer the last time cannot be moved.
        type: float
  scheduler:
    description: Scheduler options as in P(kvmfleet.compute.select_destinations#filter).
    type: dict
    default: {}
"""

EXAMPLES = r"""
- name: Describe the guests of the host
  kvmfleet.compute.domain_info:
  delegate_to: kvm1
  register: guests

- name: Plan how kvm1 is emptied
  ansible.builtin.set_fact:
    programme: "{{ facts | kvmfleet.compute.plan_drain(['kvm1'], [{'host': 'kvm1', 'guests': guests.domains}], {'reason': 'new memory'}) }}"

- name: Show it
  ansible.builtin.debug:
    msg: "{{ programme.lines }}"
"""

RETURN = r"""
_value:
  description: The programme.
  type: dict
  contains:
    error:
      description: V(null), or C(code), C(message) and C(details) of what is no drain at all, such as an unknown host.
      type: dict
    fits:
      description: Whether every guest has a class and, where it moves, a place, so that the drain may begin.
      type: bool
    hosts:
      description: The hosts that are emptied.
      type: list
      elements: str
    guests:
      description: What the records of the hosts keep of their guests, by UUID, as C(instance), C(class), C(destination), C(order) and C(power_state).
      type: dict
    moves:
      description:
        - In their order. Each has C(order), C(instance), C(uuid), C(host), C(destination), C(alternates), C(class) (V(move)), C(state), C(downtime)
          (V(running) or V(off)), C(priority), C(group), C(max_downtime), C(wants) (C(vcpus), C(ram_bytes), C(disk_bytes), C(copy_bytes)), C(seconds) (what
          it is expected to take), C(reason) (of the destination), C(how) and C(said).
        - C(after) has the UUIDs of moves that have to be over, their guest running again, before this one begins. A C(canary) goes alone before all
          others. An C(ejection) is of a guest of another host, and has to be confirmed before the move that waits for it. A move with C(until) must have
          begun by then (seconds since the epoch), since its window closes.
      type: list
      elements: dict
    stops:
      description: Guests that are shut down, and started by restore, as C(instance), C(uuid), C(host), C(class), C(state), C(code), C(message) and so on.
      type: list
      elements: dict
    leaves:
      description: The same of guests that stay as they are, so that the host is evacuated but for them.
      type: list
      elements: dict
    waits:
      description: The same of guests that wait for their window (C(when) it opens) or for approval (C(option) that gives it), with their C(destination).
      type: list
      elements: dict
    busy:
      description: The same of guests with an open operation, with C(option) (V(confirm|revert), V(recover) or V(wait)) and C(migration_uuid).
      type: list
      elements: dict
    unmovable:
      description: The same of guests that cannot be moved, with the C(option) that lets them go.
      type: list
      elements: dict
    refused:
      description:
        - The same of guests that find no room, or whose policy or server group says no, with C(option), the cheapest thing that would change that.
        - Of one without room C(best) is the host where least is missing, C(resource), C(need) and C(have) are the numbers there.
      type: list
      elements: dict
    copies:
      description: Operations whose sealed copies lie on the hosts, so that these are not empty before they are confirmed.
      type: list
      elements: dict
    arriving:
      description: Operations that bring guests to the hosts at this moment.
      type: list
      elements: dict
    searched:
      description: Whether every way to place the guests was tried, so that there is none for those without room.
      type: bool
    totals:
      description: Counts of all that, and C(running), C(copy_bytes), C(ram_bytes), C(seconds) and C(destinations) of the moves.
      type: dict
    lines:
      description: All of it for people, as a table and a sentence, or as a refusal.
      type: list
      elements: str
    message:
      description: Its sentence, or all lines of the refusal.
      type: str
"""

from collections.abc import Mapping
from typing import Any

from ansible_collections.kvmfleet.compute.plugins.plugin_utils import run
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.fleet import drain, telling
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.fleet.options import DrainOptions
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.planning.answer import answer
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.planning.freshness import marked


def plan_drain(
    facts: list[dict[str, Any]],
    hosts: list[str],
    described: list[dict[str, Any]],
    options: Mapping[str, Any] | None = None,
    scheduler: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """See DOCUMENTATION."""

    def planned() -> dict[str, Any]:
        this = run.this()
        programme = drain.plan_drain(marked(facts, this), hosts, described, DrainOptions.build(options), scheduler or {}, this.now)
        lines = telling.lines(programme)
        return {**programme.as_dict(), "lines": lines, "message": lines[-1] if programme.fits else "\n".join(lines)}

    return answer(planned, fits=False, lines=[])


class FilterModule:
    """Ansible's hook."""

    def filters(self) -> dict[str, Any]:
        return {"plan_drain": plan_drain}
