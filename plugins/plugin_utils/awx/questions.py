# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Questions of a survey of AWX, made of the kinds of the words and of the argument specifications.

AWX asks for an answer to a required question even where that has a default, so whatever has a default is not required. It has no booleans: a choice
is a text. A question that a person leaves blank comes with its default, so a text has "" and a number or a choice that has none has no key at all.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.awx.playbooks import Asked
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.given import kinds
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.given.table import NOTHING, WORDS
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.validation import ValidationError

_LARGEST = 1_000_000_000
_LENGTHS: dict[kinds.Read, int] = {
    kinds.domain_name: 128, kinds.name: 128, kinds.names: 1000, kinds.uuid: 36, kinds.amount: 40, kinds.text: 1000, kinds.options: 4000,
}  # fmt: skip
_LONG = (kinds.text, kinds.options)
_OF_A_ROLE = re.compile(r"^(?:fleet|gather|migrate|resize|settle)_")


def survey(name: str, asked: Sequence[Asked], choices: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """The survey of a template; empty where there is nothing to ask.

    :param choices: what the site has, by word: names of flavors and zones.
    """
    questions = [question(one, choices.get(one.word, ())) for one in asked]
    return {"name": name, "description": "", "spec": questions} if questions else {}


def question(asked: Asked, choices: Sequence[str] = ()) -> dict[str, Any]:
    """One question."""
    known = WORDS[asked.word]
    shown: dict[str, Any] = {
        "question_name": asked.word.replace("_", " ").capitalize(),
        "question_description": description(asked.option) + (" Blank, it is that of the job before in the workflow." if asked.from_result else ""),
        "variable": asked.word,
        "required": asked.required and known.default == NOTHING,
    }
    if known.read is kinds.flag:
        choices = ("true", "false")
    elif "choices" in asked.option:
        choices = asked.option["choices"]
    if choices:
        return {**shown, "type": "multiplechoice", "choices": [str(choice) for choice in choices], **_default(known.default)}
    if known.read is kinds.seconds:
        return {**shown, "type": "float", "min": 0, "max": _LARGEST, **_default(known.default)}
    if isinstance(known.default, int) and not isinstance(known.default, bool):
        return {**shown, "type": "integer", "min": _least(known.read), "max": _LARGEST, **_default(known.default)}
    least = 1 if shown["required"] else 0
    asked_as = {"type": "textarea" if known.read in _LONG else "text", "min": least, "max": _LENGTHS[known.read]}
    return {**shown, **asked_as} if shown["required"] else {**shown, **asked_as, "default": "" if known.default in (NOTHING, {}, ()) else str(known.default)}


def _least(read: kinds.Read) -> int:
    """The least number that a reader of numbers takes, of those that a person may mean."""
    try:
        read("", 0)
    except ValidationError:
        return 1
    return 0


def _default(value: Any) -> dict[str, Any]:
    """What AWX answers in place of somebody who does not, where there is anything."""
    if value == NOTHING:
        return {}
    return {"default": str(value).lower() if isinstance(value, bool) else value}


def description(option: Mapping[str, Any]) -> str:
    """The first paragraph of an option's description, without markup; an option of a role is called as the person who is asked knows it."""
    written = option.get("description", "")
    first = written if isinstance(written, str) else written[0]
    return re.sub(r"\b[OVCMPBI]\(([^)#]+)(?:#\w+)?\)", lambda match: _OF_A_ROLE.sub("", match[1]), " ".join(first.split()))
