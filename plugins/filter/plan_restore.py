# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: plan_restore
short_description: Plan how a drained host is put into service again
version_added: 0.1.0
author: kvmfleet contributors (@kvmfleet)
description:
  - Names the guests that the drain has stopped, to be started, and those that came from the host and go home, with a proof that there is room for all of them.
  - Who came from the host is told by the origin that guests carry in their metadata, whatever has become of the host's own record, and wherever they are.
  - A guest for which there is no room, or that cannot be moved, stays where it is and is named. That keeps nothing else back.
  - Nothing is asked of any host.
positional: host, described, back, options, scheduler
options:
  _input:
    description: The facts C(kvmfleet_host) of the hosts. A host without facts is given as C(host), C(up=false) and C(down_reason).
    type: list
    elements: dict
    required: true
  host:
    description: Name of the host.
    type: str
    required: true
  described:
    description: For the hosts where such guests are, C(host) and C(guests), as in P(kvmfleet.compute.plan_drain#filter).
    type: list
    elements: dict
    default: []
  back:
    description: Who goes home, as V(none), V(all), or names, UUIDs or shell patterns.
    type: raw
    default: none
  options:
    description:
      - What the restore was told, as in P(kvmfleet.compute.plan_drain#filter). Policies hold here too, so that a guest which waits for its window, or is not to
        be touched, stays.
    type: dict
    default: {}
  scheduler:
    description: Scheduler options as in P(kvmfleet.compute.select_destinations#filter).
    type: dict
    default: {}
"""

EXAMPLES = r"""
- name: Plan how kvm1 is put into service again, with all that came from there
  ansible.builtin.set_fact:
    programme: "{{ facts | kvmfleet.compute.plan_restore('kvm1', described, 'all') }}"
"""

RETURN = r"""
_value:
  description: The programme.
  type: dict
  contains:
    error:
      description: V(null), or C(code), C(message) and C(details).
      type: dict
    hosts:
      description: The host.
      type: list
      elements: str
    starts:
      description: Guests of the host that the drain has shut down, as C(instance), C(uuid), C(host) and so on.
      type: list
      elements: dict
    moves:
      description:
        - Guests that go home, in their order, with the keys that they have in P(kvmfleet.compute.plan_drain#filter).
        - C(how) is V(move), V(confirm_move) (its operation C(migration_uuid) has to be confirmed first) or V(revert) (that is reverted, since its copy is at
          home still and the guest has not run since it left).
      type: list
      elements: dict
    stays:
      description: Guests that came from the host and stay where they are, with C(code), C(message) and, where one would let them go home, C(option).
      type: list
      elements: dict
    searched:
      description: Whether every way to bring all home was tried.
      type: bool
    totals:
      description: Counts of all that, and C(running), C(copy_bytes), C(ram_bytes), C(seconds) and C(destinations) of the moves.
      type: dict
    lines:
      description: All of it for people.
      type: list
      elements: str
    message:
      description: The last of these.
      type: str
"""

from collections.abc import Mapping
from typing import Any

from ansible_collections.kvmfleet.compute.plugins.plugin_utils import run
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.fleet import options as given, restore, telling
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.planning.answer import answer
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.planning.freshness import marked


def plan_restore(
    facts: list[dict[str, Any]],
    host: str,
    described: list[dict[str, Any]] | None = None,
    back: object = "none",
    options: Mapping[str, Any] | None = None,
    scheduler: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """See DOCUMENTATION."""

    def planned() -> dict[str, Any]:
        this = run.this()
        told = given.DrainOptions.build(options)
        programme = restore.plan_restore(marked(facts, this), str(host), described or [], given.back(back), told, scheduler or {}, this.now)
        lines = telling.restore(programme)
        return {**programme.as_dict(), "lines": lines, "message": lines[-1]}

    return answer(planned, lines=[])


class FilterModule:
    """Ansible's hook."""

    def filters(self) -> dict[str, Any]:
        return {"plan_restore": plan_restore}
