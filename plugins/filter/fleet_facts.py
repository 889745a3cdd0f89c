# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Filter plugin: the facts of the fleet without all other variables of its hosts."""

from __future__ import annotations

DOCUMENTATION = r"""
name: fleet_facts
short_description: Take one fact of many hosts out of hostvars
version_added: 0.1.0
author: kvmfleet contributors (@kvmfleet)
description:
  - The same as C(map('extract', hostvars, 'kvmfleet_host')), but quick. Ansible works out all variables of a host, those of its groups, of the
    inventory and of the play, each time that one of them is read through C(hostvars), which takes more than a millisecond for each host.
  - What was gathered or set in this run, or is in the fact cache, is read from where Ansible keeps it. A fact that is not there, or an Ansible that
    keeps its facts elsewhere, is read through C(hostvars).
  - Hosts without the fact are left out.
  - Facts of the host itself (C(kvmfleet_host)) count for the host that they were gathered from. What calls itself another host counts as one that is down.
positional: _input
options:
  _input:
    description: The variable C(hostvars).
    type: dict
    required: true
  names:
    description: The hosts.
    type: list
    elements: str
    required: true
  fact:
    description: The fact.
    type: str
    default: kvmfleet_host
"""

EXAMPLES = r"""
- name: Place an instance on what is known of the fleet
  ansible.builtin.set_fact:
    placement: "{{ hostvars | kvmfleet.compute.fleet_facts(groups['compute']) | kvmfleet.compute.select_destinations(request) }}"
"""

RETURN = r"""
_value:
  description: The fact of each host that has it, in the order of O(names).
  type: list
  elements: dict
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

_HOST = "kvmfleet_host"
_WHEN = ("run", "gathered_at", "gathered_by")
"""What tells in which run the host was asked, so that it is down in that run and not one that nobody asked."""


def _fleet_facts(hostvars: Mapping[str, Any], names: Sequence[str], fact: str = "kvmfleet_host") -> list[Any]:
    kept = _where_ansible_keeps_facts(hostvars)
    found = []
    for name in names:
        value = next((facts[fact] for facts in (facts_of(name) for facts_of in kept) if facts and fact in facts), None)
        if value is None:
            variables = hostvars[name]
            value = variables.get(fact) or (variables.get("ansible_facts") or {}).get(fact)  # facts are no variables with inject_facts_as_vars=False
        if value is not None:
            found.append(_own(name, value) if fact == _HOST else value)
    return found


def _own(name: str, facts: Any) -> Any:
    """Nobody is believed about another host: each is known by the name that Ansible has for it."""
    called = facts.get("host") if isinstance(facts, Mapping) else None
    if called == name:
        return facts
    reason = f"its facts are those of {called!r}: two hosts with one name, facts of another inventory, or a host that lies"
    when = {key: facts[key] for key in _WHEN if key in facts} if isinstance(facts, Mapping) else {}
    return {**when, "host": name, "up": False, "reachable": True, "down_reason": reason}


def _where_ansible_keeps_facts(hostvars: Mapping[str, Any]) -> list[Callable[[str], Any]]:
    """What was set goes before what was gathered, as in Ansible's order of precedence."""
    manager = getattr(hostvars, "_variable_manager", None)
    caches = [getattr(manager, name, None) for name in ("_nonpersistent_fact_cache", "_fact_cache")]
    return [_reader(cache) for cache in caches] if all(hasattr(cache, "get") for cache in caches) else []


def _reader(cache: Any) -> Callable[[str], Any]:
    def read(name: str) -> Any:
        try:
            return cache.get(name)
        except KeyError:  # as a cache plugin tells that it does not know a host
            return None

    return read


class FilterModule:
    """The filter of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Name to function."""
        return {"fleet_facts": _fleet_facts}
