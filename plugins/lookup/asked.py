# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Lookup plugin: what the caller of a playbook asked for, which a variable of the inventory with the same name is not."""

from __future__ import annotations

DOCUMENTATION = r"""
name: asked
short_description: Read the extra variables of the playbooks of this collection
version_added: 0.1.0
author: kvmfleet contributors (@kvmfleet)
description:
  - Each extra variable of the playbooks has a short name, such as C(zone), and one that no inventory has for anything else, such as
    C(kvmfleet_zone_wanted).
  - The short one counts only where the caller gave it, as an extra variable, as a variable of a play or of an C(import_playbook), or with C(set_fact).
    A variable of that name in the inventory (a zone of the DNS, say) means something else and is left alone.
  - Values are read as P(kvmfleet.compute.given#filter) reads them. What is blank counts as not given.
options:
  _terms:
    description: Short names.
    type: list
    elements: str
    required: true
  result:
    description:
      - Whether C(kvmfleet_migration), the result of the job before, tells what was not given.
      - A result about another instance than the one that the caller names tells nothing. It knows no UUID, so whoever gives one means its instance.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Show the zone that was asked for
  ansible.builtin.debug:
    msg: "{{ lookup('kvmfleet.compute.asked', 'zone') }}"
"""

RETURN = r"""
_raw:
  description: The value of each, or its default; an empty text where there is none.
  type: list
  elements: raw
"""

from typing import Any

from ansible.errors import AnsibleLookupError
from ansible.plugins.lookup import LookupBase
from ansible.utils.display import Display
from ansible.utils.vars import load_extra_vars

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.given import kinds, read
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.given.table import NOTHING, WORDS
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.validation import ValidationError

_display = Display()


class LookupModule(LookupBase):
    """Ansible's hook."""

    def run(self, terms: list[str], variables: dict[str, Any] | None = None, **kwargs: Any) -> list[Any]:
        self.set_options(var_options=variables, direct=kwargs)
        try:
            return [self.asked(str(word), variables or {}, self.get_option("result")) for word in terms]
        except ValidationError as error:
            raise AnsibleLookupError(str(error)) from error

    def asked(self, word: str, variables: dict[str, Any], from_result: bool = False) -> Any:
        """The value of one extra variable.

        :param from_result: whether the result of the job before tells what was not given.
        :raises ValidationError: it is not what the variable takes.
        """
        known = WORDS[word]
        callers = self.is_the_callers(word, variables)
        short = self._templar.template(variables[word]) if callers else None
        unmistakable = self._templar.template(variables[known.unmistakable]) if known.unmistakable in variables else None
        if word in variables and not callers and read.is_blank(unmistakable):
            _display.warning(
                f"The inventory has a variable '{word}', which is not taken for what was asked for. Whoever means it gives it with -e {word}=... or as "
                f"{known.unmistakable}."
            )
        return read.asked(word, short, unmistakable, self._of_the_job_before(word, variables) if from_result else None)

    def _of_the_job_before(self, word: str, variables: dict[str, Any]) -> Any:
        """What its result says, unless that is about another instance than the caller names."""
        result = self._templar.template(variables["kvmfleet_migration"]) if "kvmfleet_migration" in variables else None
        if not isinstance(result, dict):
            return None
        named = NOTHING if word == "instance" else self.asked("instance", variables)
        # A result has the name of the guest. Whoever gave its UUID, as a workflow may to each of its nodes, means it too; if not, nothing is done, for
        # the operation is not one of that guest.
        return result.get(word) if named in (NOTHING, result.get("instance")) or kinds.is_uuid(named) else None

    def is_the_callers(self, name: str, variables: dict[str, Any]) -> bool:
        """Whether the variable, where there is one, comes from the caller and not from the inventory or from gathered facts."""
        if name in load_extra_vars(self._loader):
            return True
        hostvars, host = variables.get("hostvars"), variables.get("inventory_hostname")
        if name not in variables or hostvars is None or host is None:
            return name in variables
        if name in (_set_facts(hostvars, host) or ()):
            return True
        known = hostvars.raw_get(host)  # without what plays, tasks and imports say
        return name not in known or known[name] != variables[name]


def _set_facts(hostvars: Any, host: str) -> Any:
    """What `set_fact` has set for the host, which Ansible keeps apart from what the inventory says."""
    cache = getattr(getattr(hostvars, "_variable_manager", None), "_nonpersistent_fact_cache", {})
    return cache.get(host)
