# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Filter plugin: what the inventory says about a host, in whatever form it is written."""

from __future__ import annotations

DOCUMENTATION = r"""
name: given_for
short_description: Read what the inventory says about a host, in whatever form it is written
version_added: 0.1.0
author: kvmfleet contributors (@kvmfleet)
description:
  - As P(kvmfleet.compute.given#filter), for a variable of a host. What is wrong is said with the name of the host.
positional: host, name
options:
  _input:
    description: The variable C(hostvars).
    type: dict
    required: true
  host:
    description: The host, or a list of hosts.
    type: raw
    required: true
  name:
    description: The name of the variable.
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Show whether guests may come
  ansible.builtin.debug:
    msg: "{{ hostvars | kvmfleet.compute.given_for('kvm1', 'kvmfleet_enabled') }}"
"""

RETURN = r"""
_value:
  description: The value, or the default; an empty text where there is none. For a list of hosts, that by host.
  type: raw
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ansible.errors import AnsibleFilterError

from ansible_collections.kvmfleet.compute.plugins.module_utils._rules.errors import KvmfleetError
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.given import of_host


def _given_for(hostvars: Mapping[str, Any], host: str | Sequence[str], name: str) -> Any:
    return _of(hostvars, host, name) if isinstance(host, str) else {str(one): _of(hostvars, str(one), name) for one in host}


def _of(hostvars: Mapping[str, Any], host: str, name: str) -> Any:
    try:
        return of_host.given_for(hostvars, host, name)
    except KvmfleetError as error:
        raise AnsibleFilterError(str(error)) from error


class FilterModule:
    """The filter of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Name to function."""
        return {"given_for": _given_for}
