# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a playbook of this collection asks its caller for, read from the playbook itself."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.given.table import WORDS
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.validation import ValidationError

_ASKED = re.compile(r"lookup\('kvmfleet\.compute\.asked', '(\w+)'(, result=true)?\)")

_HANDS_OVER = {"resize": ("migrate", "main")}
"""A role -> the role that does the rest of its work, and the entry point."""
_PARTS = ("tasks", "pre_tasks", "post_tasks", "block", "rescue", "always")


@dataclass(frozen=True)
class Asked:
    """An extra variable that a playbook reads.

    :param word: its short name; :param role: the role that it is handed to, "" where the play keeps it; :param option: what the specification of the
        role says of it; :param from_result: whether the result of the job before says it where it is blank.
    """

    word: str
    role: str
    option: Mapping[str, Any]
    from_result: bool

    @property
    def required(self) -> bool:
        """Whether there is no going without."""
        return bool(self.option.get("required")) and not self.from_result


def asked(playbook: Sequence[Any], specs: Mapping[str, Any], role: str = "", tables: Mapping[str, Any] | None = None) -> list[Asked]:
    """What a playbook reads, each word once, in the order of the table of words.

    :param playbook: the parsed playbook; :param specs: the parsed argument specifications, by role; :param role: only what is handed to this role;
        :param tables: the parsed files of variables that plays name, by their names without `.yml`.
    """
    found: dict[str, Asked] = {}
    for play in playbook:
        shared = {variable: value for name in play.get("vars_files", ()) for variable, value in (tables or {})[name.rpartition(".")[0]].items()}
        for task in _tasks([play]):
            included = task.get("ansible.builtin.include_role", {})
            handed_to, entry_point = str(included.get("name", "")).rpartition(".")[2], included.get("tasks_from", "main")
            for variable, value in (*_values(task), *_taken_from(shared, specs, handed_to, entry_point)):
                for word, from_result in _ASKED.findall(str(value)):
                    one = Asked(word, handed_to, _option(specs, handed_to, entry_point, variable, word), bool(from_result))
                    if role in ("", handed_to) and (word not in found or one.required):
                        found[word] = one
    return [found[word] for word in WORDS if word in found]


def _values(task: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """What a task hands on, each with the name of the variable, and what its module is given. A condition hands nothing on."""
    yield from task.get("vars", {}).items()
    yield "", [value for key, value in task.items() if "." in key]


def _taken_from(shared: Mapping[str, Any], specs: Mapping[str, Any], role: str, entry_point: str) -> Iterator[tuple[str, Any]]:
    """What an entry point takes of the variables of its play: its own options and, where it hands over to another role, those of that."""
    doors = [(role, entry_point), *([_HANDS_OVER[role]] if role in _HANDS_OVER else [])]
    own = {option for door, name in doors for option in ((specs.get(door) or {}).get(name) or {}).get("options", {})}
    yield from ((variable, value) for variable, value in shared.items() if variable in own)


def _tasks(plays: Sequence[Any]) -> Iterator[Mapping[str, Any]]:
    """All tasks, those of blocks too."""
    for play in plays:
        for part in _PARTS:
            if part in play:
                yield from _tasks(play[part])
        if "hosts" not in play:
            yield play


def _option(specs: Mapping[str, Any], role: str, entry_point: str, variable: str, word: str) -> Mapping[str, Any]:
    """The specification of what a word is handed over as: that of the entry point, else that of any role that has such an option."""
    options: list[Mapping[str, Any]] = [entry["options"] for entry in (specs.get(role) or {}).values()]
    if entry_point in (specs.get(role) or {}):
        options.insert(0, specs[role][entry_point]["options"])
    options += [entry["options"] for spec in specs.values() for entry in spec.values()]
    for name in (variable, f"migrate_{word}"):
        for known in options:
            if name in known:
                return known[name]
    raise ValidationError(f"argument_specs.{variable}", None, f"an option of a role that describes the extra variable {word}")
