# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The comparison language of flavor extra specs: an operator and its operands, or plain text.

| operators | compare |
|---|---|
| `=` (at least), `==`, `!=`, `>=`, `<=` | numbers |
| `s==`, `s!=`, `s<`, `s<=`, `s>`, `s>=` | text |
| `<in>`, `<all-in>` | an element of a list, a part of a text; all of several |
| `<or>` | one of several texts |
| none | equal text |
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.validation import ValidationError

Predicate = Callable[[object], bool]

_NUMERIC = {"=": operator.ge, "==": operator.eq, "!=": operator.ne, ">=": operator.ge, "<=": operator.le}
_TEXTUAL = {"s==": operator.eq, "s!=": operator.ne, "s<": operator.lt, "s<=": operator.le, "s>": operator.gt, "s>=": operator.ge}


def predicate(path: str, requirement: str) -> Predicate:
    """Compile a requirement; a numeric operator refuses a value that is no number, whatever the comparison."""
    operation, *operands = requirement.split() or [""]
    if operation not in _NUMERIC and operation not in _TEXTUAL and operation not in ("<in>", "<all-in>", "<or>"):
        return lambda value: str(value) == requirement
    if not operands:
        raise ValidationError(path, requirement, f"a value after the operator {operation}")
    if operation in _NUMERIC:
        bound = _float(operands[0])
        if bound is None:
            raise ValidationError(path, requirement, f"a number after the operator {operation}")
        return lambda value: (found := _float(value)) is not None and _NUMERIC[operation](found, bound)
    if operation in _TEXTUAL:
        return lambda value: _TEXTUAL[operation](str(value), operands[0])
    if operation == "<or>":
        return lambda value: str(value) in operands[::2]
    wanted = operands if operation == "<all-in>" else operands[:1]
    return lambda value: all(word in _container(value) for word in wanted)


def _float(value: object) -> float | None:
    try:
        return float(str(value))
    except ValueError:
        return None


def _container(value: object) -> object:
    return [str(item) for item in value] if isinstance(value, (list, tuple, Mapping)) else str(value)
