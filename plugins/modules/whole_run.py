#!/usr/bin/python
# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: whole_run
short_description: Fail where a run of a playbook leaves something out
version_added: 0.1.0
description:
  - The first task of every playbook of this collection. A limit, tags, skipped tags or a slice of the inventory leave plays of which each ends well, and a run
    that has done nothing. Here it fails, before anything is done.
  - A playbook that imports one of this collection may give it tags, and be run with others of its tags. Then the import is not meant, and nothing fails.
  - It looks at what Ansible was told, on the controller, and touches no host.
options:
  fleet:
    description: Whether the playbook is about the hosts of group C(compute), so that there must be some and none may be left out.
    type: bool
    default: true
extends_documentation_fragment:
  - kvmfleet.compute.attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
  idempotent:
    support: full
  platform:
    support: full
    platforms: posix
seealso:
  - plugin: kvmfleet.compute.in_whole_run
    plugin_type: filter
author: kvmfleet contributors (@kvmfleet)
"""

EXAMPLES = r"""
- name: Look whether this run leaves something out
  kvmfleet.compute.whole_run:
  tags: [always]
  run_once: true
"""

RETURN = r"""
error_code:
  description: V(narrowed_run), or V(invalid_value) for C(kvmfleet_hosts_expected).
  returned: failure
  type: str
details:
  description: What is left out, by what.
  returned: failure
  type: dict
"""
