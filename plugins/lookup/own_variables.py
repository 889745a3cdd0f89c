# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Lookup plugin: what the connection variables of hosts mean there, which is not what they mean for a task that another host delegates."""

from __future__ import annotations

DOCUMENTATION = r"""
name: own_variables
short_description: Evaluate variables of hosts as a play on these hosts would
version_added: 0.1.0
author: kvmfleet contributors (@kvmfleet)
description:
  - Ansible evaluates the connection variables of a task that C(localhost) delegates with C(inventory_hostname) being C(localhost), so that
    C(ansible_host={{ inventory_hostname }}.example.net) means another machine than for a play on that host.
  - Whoever sets what this returns as facts of these hosts, before the first task is delegated to them, makes both the same.
  - Variables whose names begin with C(ansible_) or C(kvmfleet_) and whose templates come down to C(inventory_hostname) or C(hostvars), through whichever
    other variables, are evaluated. All others mean the same in any case. One that cannot be evaluated is left out, since a play on its host fails of it.
options:
  _terms:
    description: Names of hosts.
    type: list
    elements: str
    required: true
notes:
  - There may be passwords among the values, which is why a task that is given them needs C(no_log).
"""

EXAMPLES = r"""
- name: Let connection variables mean for delegated tasks what they mean on their own host
  ansible.builtin.set_fact:
    "{{ item.name }}": "{{ item.value }}"
  loop: "{{ query('kvmfleet.compute.own_variables', *groups['compute']) }}"
  delegate_to: "{{ item.host }}"
  delegate_facts: true
  no_log: true
  vars: # not yet by what is being set
    ansible_connection: local
    ansible_become: false
"""

RETURN = r"""
_raw:
  description: The C(host), the C(name) and the C(value) of each.
  type: list
  elements: dict
"""

from collections.abc import Iterator
from typing import Any

from ansible.errors import AnsibleError
from ansible.plugins.lookup import LookupBase
from ansible.template import Templar

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.own_variables import own_names


class LookupModule(LookupBase):
    """Ansible's hook."""

    def run(self, terms: list[str], variables: dict[str, Any] | None = None, **kwargs: Any) -> list[dict[str, Any]]:
        known = variables or {}
        return [found for host in terms for found in self._of(str(host), known)]

    def _of(self, host: str, variables: dict[str, Any]) -> Iterator[dict[str, Any]]:
        hostvars = variables["hostvars"]
        own = hostvars.raw_get(host)  # without what plays and imports say, and without the other hosts
        names = own_names(own)
        if not names:
            return
        here = hostvars.raw_get(variables["inventory_hostname"])
        of_the_play = {name: value for name, value in variables.items() if name not in here}
        templar = Templar(loader=self._loader, variables={**of_the_play, **own, "hostvars": hostvars})
        for name in names:
            try:
                value = templar.template(own[name])
            except AnsibleError:
                continue
            if value != variables.get("omit"):
                yield {"host": host, "name": name, "value": value}
