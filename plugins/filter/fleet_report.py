# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: fleet_report
short_description: Tell what a drain or a restore has come to
version_added: 0.1.0
author: kvmfleet contributors (@kvmfleet)
description:
  - Makes a table and a sentence for people, and C(kvmfleet_fleet) for programs, from a programme and what became of each guest.
  - Without O(results) it is about the programme itself, as of check mode or of a refusal.
positional: results, verb, state, reason, drain, others, copies
options:
  _input:
    description: The answer of P(kvmfleet.compute.plan_drain#filter) or P(kvmfleet.compute.plan_restore#filter).
    type: dict
    required: true
  results:
    description:
      - What became of each guest, by UUID, as C(state), C(downtime_seconds), C(bytes), C(seconds), C(migration_uuid) and C(message), as far as that is known.
      - C(state) is V(moved), V(confirmed), V(stopped), V(started), V(left), V(waiting), V(undone) (it is as before), V(open) (that is not known yet) or
        V(skipped). A guest of the moves of which nothing is told was never begun.
    type: dict
  verb:
    description: Which of the two.
    type: str
    choices: [drain, restore]
    default: drain
  state:
    description: What the hosts' records say now, such as V(evacuated).
    type: str
    default: draining
  reason:
    description: Why it was done.
    type: str
    default: ""
  drain:
    description: UUID of the record.
    type: str
  others:
    description: Names of guests that are there and of no programme.
    type: list
    elements: str
    default: []
  copies:
    description: How many sealed copies wait there for confirm. Without it, as many as guests were moved.
    type: int
"""

EXAMPLES = r"""
- name: Show what would be done
  ansible.builtin.debug:
    msg: "{{ (programme | kvmfleet.compute.fleet_report).lines }}"

- name: Show what was done
  ansible.builtin.debug:
    msg: "{{ (programme | kvmfleet.compute.fleet_report(results, 'drain', 'evacuated', 'new memory')).lines }}"
"""

RETURN = r"""
_value:
  description: The report.
  type: dict
  contains:
    error:
      description: V(null), or C(code), C(message) and C(details).
      type: dict
    lines:
      description: A line for each guest, then the sentence.
      type: list
      elements: str
    message:
      description: The sentence.
      type: str
    artifact:
      description:
        - C(kvmfleet_fleet) of plain types, with C(verb), C(hosts), C(reason), and C(totals). Of a run it has C(state), C(drain), C(complete), C(message), and
          C(guests) by name, each with all figures; of a programme C(fits) and its lists. What is too large to be handed on is left out.
      type: dict
    complete:
      description: Whether nothing failed, was left out or waits. Of a programme, whether it may begin.
      type: bool
"""

from collections.abc import Mapping
from typing import Any

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.artifacts import fleet as artifact
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.fleet import report
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.planning.answer import answer


def fleet_report(
    programme: Mapping[str, Any],
    results: Mapping[str, Mapping[str, Any]] | None = None,
    verb: str = "drain",
    state: str = "draining",
    reason: str = "",
    drain: str | None = None,
    others: list[str] | None = None,
    copies: int | None = None,
) -> dict[str, Any]:
    """See DOCUMENTATION."""

    def reported() -> dict[str, Any]:
        report.require_verb(verb)
        if results is None:
            told = artifact.planned(verb, programme, reason)
            return {"lines": programme["lines"], "message": programme["message"], "artifact": told, "complete": bool(programme["fits"])}
        guests = report.guests(programme, results)
        hosts = [str(host) for host in programme["hosts"]]
        message = report.restored(hosts, guests) if verb == "restore" else report.drained(hosts, state, guests, others or [], copies)
        told = artifact.carried_out(verb, programme, results, state, message, reason, drain)
        return {"lines": [*report.table(guests), message], "message": message, "artifact": told, "complete": told["complete"]}

    return answer(reported, lines=[], message="", artifact={}, complete=False)


class FilterModule:
    """Ansible's hook."""

    def filters(self) -> dict[str, Any]:
        return {"fleet_report": fleet_report}
