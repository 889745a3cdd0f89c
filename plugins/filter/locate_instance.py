# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: locate_instance
short_description: Check a request and find the host that defines the instance
version_added: 0.1.0
description:
  - Takes the facts of all compute hosts and finds the one host that defines an instance, and the open operations on it.
  - What is wrong is returned as RV(_value.error), not raised, so that a playbook can fail with the plain sentence.
  - An open operation with a host that is not in the inventory is wrong, whichever instance it is about. The inventory may be a part of the fleet then.
positional: request
options:
  _input:
    description: The facts C(kvmfleet_host) of the hosts. A host without facts is given as C(host), C(up=false) and C(down_reason).
    type: list
    elements: dict
    required: true
  request:
    description: RV(_value.request) in its raw form, with C(instance), C(zone), C(target_host), C(ignore_hosts), C(flavor) and C(flavors).
    type: dict
    required: true
author: kvmfleet contributors (@kvmfleet)
"""

EXAMPLES = r"""
- name: Where is web1?
  ansible.builtin.debug:
    msg: "{{ facts | kvmfleet.compute.locate_instance({'instance': 'web1'}) }}"
  vars:
    facts: "{{ groups['compute'] | map('extract', hostvars, 'kvmfleet_host') }}"
"""

RETURN = r"""
_value:
  description: What was found.
  type: dict
  contains:
    error:
      description: V(null), or C(code), C(message) and C(details).
      type: dict
    host:
      description: The host that defines the instance. V(null) if there is an error, or if an interrupted operation left it defined nowhere.
      type: str
    request:
      description:
        - The request with names checked, empty strings replaced by null, and the flavor resolved to its numbers.
        - C(tuning) is what its extra specs come to in a definition, for O(kvmfleet.compute.domain_info#module:flavor); V(null) without a flavor.
        - C(ignored_flavor_keys) are what the flavor says that has no meaning here, such as C(rxtx_factor).
      type: dict
    migrations:
      description: The open journal records of the instance.
      type: list
      elements: dict
"""

from collections.abc import Mapping
from typing import Any

from ansible_collections.kvmfleet.compute.plugins.plugin_utils import run
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.planning import locate
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.planning.answer import answer
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.planning.fleet import Fleet
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.planning.freshness import marked


def locate_instance(hosts: list[dict[str, Any]], request: Mapping[str, Any]) -> dict[str, Any]:
    """See DOCUMENTATION."""

    def found() -> dict[str, Any]:
        fleet = Fleet(marked(hosts, run.this()))
        fleet.require_parties()
        return locate.locate(fleet, request)

    return answer(found, host=None, request=None, migrations=[])


class FilterModule:
    """Ansible's hook."""

    def filters(self) -> dict[str, Any]:
        return {"locate_instance": locate_instance}
