# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Filter plugin: the objects of AWX that run this collection."""

from __future__ import annotations

DOCUMENTATION = r"""
name: awx_objects
short_description: Describe the objects of AWX that run this collection
version_added: 0.1.0
author: kvmfleet contributors (@kvmfleet)
description:
  - Makes the parameters of the modules of C(awx.awx) for every job template with its survey, workflow, schedule, notification and team, used by the role
    P(kvmfleet.compute.awx#role).
  - A survey asks for what the playbook of its template reads. Types, choices and defaults are those of the argument specifications of the roles and of the
    readers of this collection.
  - Objects that AWX refuses, or takes and then trips over, are refused with a sentence for each.
positional: described, playbooks, specs
options:
  _input:
    description: >-
      What the site calls its things: C(name), C(organization), C(project), C(inventory), C(credential), and optionally C(execution_environment),
      C(instance_groups), C(forks), C(flavors), C(zones), C(approval_timeout), C(schedules), C(teams), C(notification). As in the role.
    type: dict
    required: true
  described:
    description: The text of C(files/objects.yml) of the role.
    type: str
    required: true
  playbooks:
    description: The texts of the playbooks of this collection, by name, and those of the variables beside them, by C(vars/NAME).
    type: dict
    required: true
  specs:
    description: The texts of the argument specifications of the roles, by role.
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Show the job templates
  ansible.builtin.debug:
    msg: "{{ (site | kvmfleet.compute.awx_objects(described, playbooks, specs)).job_templates | map(attribute='name') }}"
"""

RETURN = r"""
_value:
  description: >-
    Lists by kind, in the order in which they are made: C(notification_templates), C(job_templates), C(workflows), C(workflow_nodes), C(workflow_links),
    C(schedules), C(teams), C(grants).
  type: dict
"""

from collections.abc import Callable, Mapping
from typing import Any

import yaml
from ansible.errors import AnsibleFilterError
from ansible.utils.unsafe_proxy import wrap_var

from ansible_collections.kvmfleet.compute.plugins.module_utils._rules.errors import KvmfleetError
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.awx import objects
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.given.kinds import plain


def _awx_objects(site: Mapping[str, Any], described: str, playbooks: Mapping[str, str], specs: Mapping[str, str]) -> dict[str, Any]:
    parsed = {role: yaml.safe_load(str(text))["argument_specs"] for role, text in specs.items()}
    try:
        made = objects.everything(
            objects.Site(**plain(site)), yaml.safe_load(str(described)), {name: yaml.safe_load(str(text)) for name, text in playbooks.items()}, parsed
        )
    except KvmfleetError as error:
        raise AnsibleFilterError(str(error)) from error
    return wrap_var(made)  # messages of notifications are templates of AWX, not of Ansible


class FilterModule:
    """The filter of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Name to function."""
        return {"awx_objects": _awx_objects}
