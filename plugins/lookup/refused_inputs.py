# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Lookup plugin: what a person gave and cannot have meant, all of it at once, before anything is done."""

from __future__ import annotations

DOCUMENTATION = r"""
name: refused_inputs
short_description: Name what was given to the playbooks and roles of this collection and cannot be read
version_added: 0.1.0
author: kvmfleet contributors (@kvmfleet)
description:
  - Reads every extra variable of the playbooks, every option of a role, or every variable of the host, as P(kvmfleet.compute.asked#lookup) and
    P(kvmfleet.compute.given#filter) do, so that what is wrong is known before the first task needs it.
  - An extra variable, or a variable of the host, whose name is nearly one that is read, is refused with the right name.
options:
  _terms:
    description: >-
      V(words) for the extra variables of the playbooks, V(host) for what the inventory says about the host, or the name of a role for its options.
    type: list
    elements: str
    choices: [words, host, migrate, resize, settle, gather, fleet, prepare_host, awx]
    required: true
"""

EXAMPLES = r"""
- name: Refuse what nobody can have meant
  ansible.builtin.fail:
    msg: "{{ query('kvmfleet.compute.refused_inputs', 'words') | join('; ') }}"
  when: query('kvmfleet.compute.refused_inputs', 'words') | length > 0
"""

RETURN = r"""
_raw:
  description: A sentence for each, with the field, the value and what would be right. None where all is well.
  type: list
  elements: str
"""

from collections.abc import Iterator, Mapping
from typing import Any

from ansible.errors import AnsibleError
from ansible.plugins.lookup import LookupBase
from ansible.utils.vars import load_extra_vars

from ansible_collections.kvmfleet.compute.plugins.lookup import asked
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.given import read, spelling
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.given.table import HOST, INPUTS, ROLES, WORDS
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.own_variables import own_names
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.validation import ValidationError


class LookupModule(LookupBase):
    """Ansible's hook."""

    def run(self, terms: list[str], variables: dict[str, Any] | None = None, **kwargs: Any) -> list[str]:
        known = variables or {}
        return list(dict.fromkeys(sentence for term in terms for sentence in self._sentences(str(term), known)))

    def _sentences(self, term: str, variables: dict[str, Any]) -> Iterator[str]:
        return self._words(variables) if term == "words" else _of_host(variables) if term == "host" else self._of_role(term, variables)

    def _words(self, variables: dict[str, Any]) -> Iterator[str]:
        yield from spelling.misspelt(load_extra_vars(self._loader))
        lookup = asked.LookupModule(loader=self._loader, templar=self._templar)
        for word in WORDS:
            try:
                lookup.asked(word, variables)
            except ValidationError as error:
                yield str(error)

    def _of_role(self, role: str, variables: dict[str, Any]) -> Iterator[str]:
        fleet = _host(variables) if role == "prepare_host" else _first_of_the_fleet(variables)
        for name in (*ROLES[role], "kvmfleet_become"):
            try:
                read.given(name, self._templar.template(variables[name]) if name in variables else None, fleet.get(INPUTS[name].fleet))
            except ValidationError as error:
                yield str(error)
            except AnsibleError as error:
                yield _reason(error)
        if role == "migrate":
            yield from self._of_connections(variables)

    def _of_connections(self, variables: dict[str, Any]) -> Iterator[str]:
        """Templates that the lookup `own_variables` cannot help, since nothing that is set afterwards goes before an extra variable."""
        given = {name: value for name, value in load_extra_vars(self._loader).items() if name.startswith("ansible_")}
        for name in own_names({**variables, **given}) if given else ():
            if name in given:
                yield (
                    f"{name}: expected a value, got a template as an extra variable: with inventory_hostname or hostvars it would mean another thing for each "
                    "task that one host does for another; give it in the inventory, to the group 'compute'."
                )


def _of_host(variables: dict[str, Any]) -> Iterator[str]:
    said = _host(variables)
    for name in HOST:
        try:
            read.given(name, said.get(name))
        except ValidationError as error:
            yield str(error)
    yield from spelling.misspelt(name for name in said if name.startswith("kvmfleet_"))


def _reason(error: BaseException) -> str:
    """What was refused where a variable is made of another one that cannot be read, without what Ansible says around it."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, ValidationError):
        cause = cause.__cause__ or getattr(cause, "orig_exc", None) or cause.__context__
    if cause is None:
        raise error
    return str(cause)


def _host(variables: dict[str, Any]) -> Mapping[str, Any]:
    """The variables of this host."""
    return variables["hostvars"][variables["inventory_hostname"]]


def _first_of_the_fleet(variables: dict[str, Any]) -> Mapping[str, Any]:
    """The variables of a host of the fleet, which are those of the group for what is meant for all of it."""
    names = (variables.get("groups") or {}).get("compute") or []
    return variables["hostvars"][names[0]] if names else {}
