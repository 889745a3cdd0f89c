# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a user says of a filter that is an expression."""

from __future__ import annotations

from typing import NamedTuple

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.validation import ValidationError, check_name, known_mapping, sequence

LONGEST = 1000


class Expression(NamedTuple):
    """One entry of `custom_filters`, and where it was found."""

    field: str
    name: str
    expression: str
    reason: str

    @classmethod
    def build(cls, field: str, value: object) -> Expression:
        """Read one entry."""
        given = known_mapping(field, value, ("name", "expression", "reason"))
        texts = {key: given.get(key) for key in ("expression", "reason")}
        for key, text in texts.items():
            if not isinstance(text, str) or not 0 < len(text) <= LONGEST:
                raise ValidationError(f"{field}.{key}", text, f"1 to {LONGEST} characters of text")
        return cls(field, check_name(f"{field}.name", given.get("name")), **{key: str(text) for key, text in texts.items()})


def read_expressions(field: str, value: object) -> tuple[Expression, ...]:
    """Read `custom_filters`; two of one name would be one in the answer."""
    read: dict[str, Expression] = {}
    for index, item in enumerate(sequence(field, value)):
        entry = Expression.build(f"{field}[{index}]", item)
        if entry.name in read:
            raise ValidationError(f"{entry.field}.name", entry.name, f"every name once (it is {read[entry.name].field} already)")
        read[entry.name] = entry
    return tuple(read.values())
