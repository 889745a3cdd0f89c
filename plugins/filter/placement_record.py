# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Filter plugin: a decision with all that it was made from."""

from __future__ import annotations

DOCUMENTATION = r"""
name: placement_record
short_description: Keep a placement decision with the facts that it was made from
version_added: 0.1.0
author: kvmfleet contributors (@kvmfleet)
description:
  - Gives what C(script/replay) of this project's repository makes a decision from again, bit for bit, and answers what-if questions from.
positional: _input
options:
  _input:
    description: What P(kvmfleet.compute.select_destinations#filter) answered.
    type: dict
    required: true
  hosts:
    description: The states of the hosts that it was given.
    type: list
    elements: dict
    required: true
  request:
    description: The request that it was given.
    type: dict
    required: true
  scheduler:
    description: The options that it was given.
    type: dict
seealso:
  - plugin: kvmfleet.compute.select_destinations
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Keep the decision on the controller
  ansible.builtin.copy:
    content: "{{ placement | kvmfleet.compute.placement_record(states, request, scheduler) | to_json }}"
    dest: /var/log/placement/web1.json
    mode: "0600"
  delegate_to: localhost
"""

RETURN = r"""
_value:
  description: The record, made of plain JSON types.
  type: dict
  contains:
    schema_version:
      description: Grows when the record changes.
      type: int
      sample: 1
    hosts:
      description: As given.
      type: list
      elements: dict
    request:
      description: As given.
      type: dict
    scheduler:
      description: As given.
      type: dict
    answer:
      description: What people read of the answer, C(selected), C(alternates) and C(message).
      type: dict
    answer_sha256:
      description: The fingerprint of the whole answer.
      type: str
"""

import json
from collections.abc import Callable
from typing import Any

from ansible.errors import AnsibleFilterError

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.replay import record
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.validation import ValidationError


def _placement_record(answer: Any, hosts: Any, request: Any, scheduler: Any = None) -> dict[str, Any]:
    try:
        return json.loads(json.dumps(record(hosts, request, scheduler, answer)))
    except (ValidationError, KeyError, TypeError) as error:
        raise AnsibleFilterError(f"placement_record: {error}") from error


class FilterModule:
    """The filter of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Name to function."""
        return {"placement_record": _placement_record}
