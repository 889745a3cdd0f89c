# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""An expression over the state of a host, written as JSON lists."""

from __future__ import annotations

import json
import operator
from collections.abc import Callable, Sequence
from typing import Any

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.context import Context
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.filters.base import Filter, Rejection
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.host_state import HostState
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.validation import ValidationError

_PATH = "request.scheduler_hints.query"


def _against_first(compare: Callable[[Any, Any], bool]) -> Callable[[list], bool]:
    """The first argument compared with each of the others; false where there is nothing to compare."""
    return lambda values: len(values) > 1 and all(compare(values[0], other) for other in values[1:])


_OPERATIONS: dict[str, Callable[[list], Any]] = {
    "=": _against_first(operator.eq),
    "<": _against_first(operator.lt),
    ">": _against_first(operator.gt),
    "<=": _against_first(operator.le),
    ">=": _against_first(operator.ge),
    "in": lambda values: len(values) > 1 and values[0] in values[1:],
    "not": lambda values: [not value for value in values],
    "or": any,
    "and": all,
}


class JsonFilter(Filter):
    """The hint `query` holds, such as `["and", [">=", "$free_ram_mb", 1024], ["=", "$arch", "x86_64"]]`, as a list or as text.

    `$name.name` is looked up in the host state, under our names or Nova's; what is not there drops out of its operation.
    """

    reads = frozenset({"scheduler_hints.query"})

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        query = context.request.scheduler_hints.get("query")
        try:
            self.query = json.loads(query) if isinstance(query, str) and query else query
        except ValueError as error:
            raise ValidationError(_PATH, query, "JSON") from error
        _check(_PATH, self.query or [])

    def applies(self) -> bool:
        return bool(self.query)

    def rejection(self, host: HostState) -> Rejection | None:
        try:
            result = _evaluate(self.query, host)
        except TypeError as error:
            raise ValidationError(_PATH, self.query, f"values that can be compared on {host.name} ({error})") from error
        if any(result) if isinstance(result, list) else result:
            return None
        return self.reject("json_query", "does not fulfil the query of the request", json.dumps(self.query))


def _check(path: str, query: Any) -> None:
    if not isinstance(query, Sequence) or isinstance(query, str):
        raise ValidationError(path, query, "a list that begins with an operation")
    if query and query[0] not in _OPERATIONS:
        raise ValidationError.not_one_of(f"{path}[0]", query[0], tuple(_OPERATIONS))
    for index, item in enumerate(query):
        if isinstance(item, Sequence) and not isinstance(item, str):
            _check(f"{path}[{index}]", item)


def _evaluate(query: Sequence[Any], host: HostState) -> Any:
    if not query:
        return True
    values = [_value(item, host) for item in query[1:]]
    return _OPERATIONS[query[0]]([value for value in values if value is not None])


def _value(item: Any, host: HostState) -> Any:
    if isinstance(item, Sequence) and not isinstance(item, str):
        return _evaluate(item, host)
    if not isinstance(item, str) or not item.startswith("$"):
        return item if item != "" else None
    name, *names = item[1:].split(".")
    found = host.attribute(name)
    for name in names:
        found = found.get(name) if isinstance(found, dict) else None
    return found
