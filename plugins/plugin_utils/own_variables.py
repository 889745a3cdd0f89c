# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which variables of a host mean something else for a task that is delegated to it.

Ansible evaluates them with all variables of that host but one: C(inventory_hostname) is the name of the host that delegates. So a template that comes down
to it, through whichever other variables, has to be evaluated before.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

NAMES = ("ansible_", "kvmfleet_")
"""What begins the names of all variables of a host that Ansible itself, its connection, shell and become plugins, and this collection read."""
_OF_ANOTHER_HOST = "inventory_hostname"
# What a lookup of these reads nobody sees in the template: a name that is put together, or the text of a file.
_ANYTHING = frozenset({"vars", "varnames", "template", "hostvars"})
_FACTS = frozenset({"ansible_facts", "ansible_local"})
_WORD = re.compile(r"[A-Za-z_]\w*")
_MARKS = ("{{", "{%")


def own_names(variables: Mapping[str, Any]) -> list[str]:
    """The names of such variables, in order.

    :param variables: those of a host as they are written.
    """
    return sorted(name for name in variables if name.startswith(NAMES) and name not in _FACTS and differs(name, variables))


def differs(name: str, variables: Mapping[str, Any]) -> bool:
    """Whether one variable is a template that comes down to the name of the host, or to what cannot be told."""
    waiting, seen = [name], {name}
    while waiting:
        for text in _templates(variables[waiting.pop()]):
            words = set(_WORD.findall(text))
            if _OF_ANOTHER_HOST in words or words & _ANYTHING:
                return True
            new = {word for word in words - seen - _FACTS if word in variables}
            seen |= new
            waiting += new
    return False


def _templates(value: Any) -> Iterator[str]:
    """The texts of a value, at whatever depth, that are templates."""
    if isinstance(value, str):
        if any(mark in value for mark in _MARKS):
            yield value
    elif isinstance(value, Mapping):
        for item in (*value, *value.values()):
            yield from _templates(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _templates(item)
