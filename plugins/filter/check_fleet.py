# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: check_fleet
short_description: Tell which hosts are ready and which guests can move
version_added: 0.1.0
author: kvmfleet contributors (@kvmfleet)
description:
  - Plans a migration of every guest from the same facts, as P(kvmfleet.compute.plan_migration#filter) does for one, and says what keeps each from moving.
    Each guest is judged by itself, as if no other one moved.
  - Hosts that are not ready are no destinations.
  - Nothing is asked of any host.
positional: names, looked, request, scheduler, only, tunnel
options:
  _input:
    description: The facts C(kvmfleet_host) of the hosts. Facts of another run do not count.
    type: list
    elements: dict
    required: true
  names:
    description: The hosts of the fleet.
    type: list
    elements: str
    required: true
  looked:
    description: >-
      What the entry point V(look) of the role P(kvmfleet.compute.prepare_host#role) found of each host (C(kvmfleet_looked)), as C(host), C(summary),
      C(problems), C(to_do), C(hints), C(guests) and C(ways).
    type: list
    elements: dict
    required: true
  request:
    description: A request as for P(kvmfleet.compute.locate_instance#filter), without an instance.
    type: dict
    required: true
  scheduler:
    description: Scheduler options as in P(kvmfleet.compute.select_destinations#filter).
    type: dict
    default: {}
  only:
    description: The one host that is told of. Empty, all are.
    type: str
    default: ""
  tunnel:
    description: C(kvmfleet_migration_tunnel), by which copies without a straight way travel through the controller or are refused.
    type: str
    default: auto
"""

EXAMPLES = r"""
- name: Show what would keep the fleet from its moves
  ansible.builtin.debug:
    msg: "{{ (facts | kvmfleet.compute.check_fleet(groups['compute'], looked, request)).lines }}"
"""

RETURN = r"""
_value:
  description: The verdicts.
  type: dict
  contains:
    error:
      description: V(null), or C(code), C(message) and C(details).
      type: dict
    lines:
      description: All of it for people, the last line about all hosts.
      type: list
      elements: str
    artifact:
      description:
        - C(kvmfleet_check) of plain types, with C(complete) (whether every host is ready and every guest can move), C(message), C(guests), C(can_move),
          C(problems) and C(hosts).
        - C(hosts) has, by host, C(answers), C(ready), C(problems), C(to_do), C(hints), C(guests), C(can_move) and C(cannot_move) (C(code) and C(reason) by
          guest). In a large fleet it is without sentences, or left out.
      type: dict
    complete:
      description: Whether every host is ready and every guest can move.
      type: bool
"""

from collections.abc import Mapping
from typing import Any

from ansible_collections.kvmfleet.compute.plugins.plugin_utils import run
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.artifacts.check import checked
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.artifacts.wrapped import wrapped
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.planning import check
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.planning.answer import answer


def check_fleet(
    hosts: list[dict[str, Any]],
    names: list[str],
    looked: list[dict[str, Any]],
    request: Mapping[str, Any],
    scheduler: Mapping[str, Any] | None = None,
    only: str = "",
    tunnel: str = "auto",
) -> dict[str, Any]:
    """See DOCUMENTATION."""

    def verdicts() -> dict[str, Any]:
        found = check.check([str(name) for name in names], hosts, looked, request, scheduler or {}, run.this(), str(only), tunnel)
        return {"lines": wrapped(check.lines(found)), "artifact": checked(found), "complete": check.complete(found)}

    return answer(verdicts, lines=[], artifact={}, complete=False)


class FilterModule:
    """Ansible's hook."""

    def filters(self) -> dict[str, Any]:
        return {"check_fleet": check_fleet}
