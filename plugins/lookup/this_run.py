# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Lookup plugin: the name of this run of Ansible."""

from __future__ import annotations

DOCUMENTATION = r"""
name: this_run
short_description: Name this run of Ansible, and the clock that it goes by
version_added: 0.1.0
author: kvmfleet contributors (@kvmfleet)
description:
  - M(kvmfleet.compute.host_facts) is given it and returns it, so that facts prove in which run they were gathered.
options: {}
"""

EXAMPLES = r"""
- name: Show it
  ansible.builtin.debug:
    msg: "{{ lookup('kvmfleet.compute.this_run') }}"
"""

RETURN = r"""
_raw:
  description: >-
    C(name), which no other run has and all tasks of this one have; C(clock), which names the controller until it starts again; C(now), the time by
    that clock.
  type: list
  elements: dict
"""

from dataclasses import asdict
from typing import Any

from ansible.plugins.lookup import LookupBase

from ansible_collections.kvmfleet.compute.plugins.plugin_utils import run


class LookupModule(LookupBase):
    """Ansible's hook."""

    def run(self, terms: list[str], variables: dict[str, Any] | None = None, **kwargs: Any) -> list[dict[str, Any]]:
        return [asdict(run.this())]
