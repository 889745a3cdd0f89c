# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a person gave for a variable: the first value that is not blank, read by its kind, or the default."""

from __future__ import annotations

from typing import Any

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.given.kinds import is_blank, plain
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.given.table import INPUTS, WORDS
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.validation import ValidationError


def given(name: str, value: Any, fleet: Any = None) -> Any:
    """The value of a variable.

    :param fleet: what holds where this one is blank: the value of a variable of the inventory, or of another one.
    :raises ValidationError: it is not what the variable takes.
    """
    known = INPUTS[name]
    for field, candidate in ((name, value), (known.fleet or name, fleet)):
        if not is_blank(candidate):
            return known.read(field, candidate)
    return plain(known.default)


def asked(word: str, short: Any, unmistakable: Any, result: Any = None) -> Any:
    """The value of an extra variable of the playbooks, which goes by two names.

    :param result: what the result of the job before says of it.
    :raises ValidationError: it is not what the variable takes, or the two names have different values.
    """
    known = WORDS[word]
    names = {name: known.read(name, value) for name, value in ((word, short), (known.unmistakable, unmistakable)) if not is_blank(value)}
    values = list(names.values())
    if len(values) == 2 and values[0] != values[1]:
        raise ValidationError(word, short, f"the same as {known.unmistakable} ({values[1]!r}), or only one of the two")
    if values:
        return values[0]
    if not is_blank(result):
        return known.read(f"kvmfleet_migration.{word}", result)
    return plain(known.default)
