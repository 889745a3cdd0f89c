# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: base_sources
short_description: Say where a host may get base images from, in the order to try
version_added: 0.1.0
description:
  - Takes the facts of all compute hosts and lists, for each base image, up to two other hosts in the zone of the destination that report it (the least
    busy first), the image store of the fleet, and the host of the instance.
  - What is wrong is returned as RV(_value.error), not raised.
positional: bases, source, destination, store
options:
  _input:
    description: The facts C(kvmfleet_host) of the hosts. A host without facts is given as C(host), C(up=false) and C(down_reason).
    type: list
    elements: dict
    required: true
  bases:
    description: Base images, each with C(sha256) at least.
    type: list
    elements: dict
    required: true
  source:
    description: The host of the instance.
    type: str
    required: true
  destination:
    description: The host that lacks the base images.
    type: str
    required: true
  store:
    description: URL of the image store. Empty, there is none.
    type: str
    default: ""
author: kvmfleet contributors (@kvmfleet)
"""

EXAMPLES = r"""
- name: Where can kvm2 get it from?
  ansible.builtin.debug:
    msg: "{{ facts | kvmfleet.compute.base_sources(bases, 'kvm1', 'kvm2', 'https://images.example.com/base') }}"
"""

RETURN = r"""
_value:
  description: The sources.
  type: dict
  contains:
    error:
      description: V(null), or C(code), C(message) and C(details).
      type: dict
    sources:
      description:
        - In the order to try, those of the first base image first. Each has C(base), C(kind) (V(sibling), V(store) or V(source)), C(host) (V(null) for the
          store) and C(url) (V(null) for a host).
      type: list
      elements: dict
"""

from typing import Any

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.planning import bases as planning
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.planning.answer import answer


def base_sources(hosts: list[dict[str, Any]], bases: list[dict[str, Any]], source: str, destination: str, store: str = "") -> dict[str, Any]:
    """See DOCUMENTATION."""
    return answer(lambda: {"sources": planning.base_sources(hosts, bases, str(source), str(destination), store or None)}, sources=[])


class FilterModule:
    """Ansible's hook."""

    def filters(self) -> dict[str, Any]:
        return {"base_sources": base_sources}
