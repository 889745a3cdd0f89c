# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Filter plugin: the hosts of a play that does not run unless the first play of its playbook did."""

from __future__ import annotations

DOCUMENTATION = r"""
name: in_whole_run
short_description: Let a play have no hosts unless this run is a whole one
version_added: 0.1.0
author: kvmfleet contributors (@kvmfleet)
description:
  - Gives its input back if M(kvmfleet.compute.whole_run) has run in this run of Ansible and found nothing wrong, and ends the run otherwise.
  - So C(--start-at-task), skipped tags and whatever else leaves out the task that looks are noticed too, by each play that comes after it.
  - Where a C(when) or the tags of an C(import_playbook) left that task out, the play has no hosts, since they leave out all other tasks too.
  - Where Ansible runs nothing, as with C(--syntax-check) and C(--list-tasks), nothing is wrong.
positional: hostvars
options:
  _input:
    description: The hosts of a play.
    type: str
    required: true
  hostvars:
    description: The variable C(hostvars), or nothing before the first play.
    type: dict
    required: true
seealso:
  - module: kvmfleet.compute.whole_run
"""

EXAMPLES = r"""
- name: Resize the instance
  hosts: "{{ 'localhost' | kvmfleet.compute.in_whole_run(hostvars | default({})) }}"
"""

RETURN = r"""
_value:
  description: The hosts, or a pattern that matches none.
  type: str
"""

from collections.abc import Callable, Mapping
from typing import Any

from ansible import context
from ansible.errors import AnsibleFilterError

from ansible_collections.kvmfleet.compute.plugins.plugin_utils import run

_NOBODY = "all:!all"
_NOTHING_RUNS = ("syntax", "listhosts", "listtasks", "listtags")


def _in_whole_run(hosts: str, hostvars: Mapping[str, Any]) -> str:
    if any(context.CLIARGS.get(option) for option in _NOTHING_RUNS) or _looked_at(hostvars):
        return hosts
    option = context.CLIARGS.get("start_at_task")
    if not option and not any("always" in tags.split(",") for tags in context.CLIARGS.get("skip_tags") or ()):
        return _NOBODY  # a condition of the import_playbook, or tags of it, which all tasks have, left the look out
    why = f"--start-at-task {option!r}" if option else "what this run was told to skip"
    raise AnsibleFilterError(
        f"The first task of this playbook, which looks whether a run is a whole one, was left out by {why}. Nothing was done. Run the playbook from its "
        "beginning: the same command goes on with what was interrupted, and recover ends it."
    )


def _looked_at(hostvars: Mapping[str, Any]) -> bool:
    known = hostvars["localhost"] if "localhost" in hostvars else {}  # noqa: SIM401 (hostvars answers for an unknown host, with something undefined)
    facts = (known.get("kvmfleet_whole_run"), (known.get("ansible_facts") or {}).get("kvmfleet_whole_run"))  # with inject_facts_as_vars=False
    return run.this().name in facts


class FilterModule:
    """The filter of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Name to function."""
        return {"in_whole_run": _in_whole_run}
