# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Filters without Python: a Jinja expression over `host` and `request` that is true on the hosts which may take the guest.

An expression can read and compare, nothing else. It sees no variables, lookups, globals or files. It may call only the methods and filters
listed here, none of which gives back more than it was given, so an expression cannot loop or grow; what all its evaluations together take is
bounded by a clock besides.
"""

from __future__ import annotations

import operator
import time
from collections.abc import Mapping
from typing import Any

from jinja2 import StrictUndefined
from jinja2.exceptions import SecurityError, TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.context import Context
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.custom import PluginError
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.expression import Expression
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.filters.base import Filter, Rejection
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.host_state import HostState

SECONDS = 10.0

_METHODS = frozenset({"get", "startswith", "endswith", "lower", "upper", "strip", "split", "items", "keys", "values"})
_FILTERS = (
    *("abs", "attr", "count", "d", "default", "first", "float", "int", "items", "last", "length", "list", "lower", "map", "max", "min"),
    *("reject", "rejectattr", "round", "select", "selectattr", "sort", "string", "sum", "trim", "unique", "upper"),
)
_OPERATORS = {"*": operator.mul, "%": operator.mod, "//": operator.floordiv, "/": operator.truediv}


class _Sandbox(ImmutableSandboxedEnvironment):
    intercepted_binops = frozenset({*_OPERATORS, "**"})

    def __init__(self) -> None:
        super().__init__(undefined=StrictUndefined)
        self.globals.clear()
        self.filters = {name: self.filters[name] for name in _FILTERS}

    def is_safe_callable(self, obj: Any) -> bool:
        return isinstance(getattr(obj, "__self__", None), (str, Mapping)) and getattr(obj, "__name__", "") in _METHODS

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        """Numbers only: text that is multiplied or formatted grows without bound, and so does a power."""
        if operator not in _OPERATORS or not all(isinstance(side, (int, float)) for side in (left, right)):
            raise SecurityError(f"{left!r:.20} {operator} {right!r:.20} is not allowed")
        return _OPERATORS[operator](left, right)


def expression_filter(given: Expression) -> type[Filter]:
    """A filter class for one expression.

    :raises PluginError: the expression does not compile; when asked, it failed on a host, was no boolean there, or took too long.
    """

    def failure(error: object, host: HostState | None = None) -> PluginError:
        where = f" on host {host.name}" if host else ""
        return PluginError(f"{given.field}.expression", f"{given.name}{where}: {given.expression!r}: {error}")

    try:
        evaluate = _Sandbox().compile_expression(given.expression, undefined_to_none=False)
    except (TemplateError, RecursionError) as error:
        raise failure(error) from error

    class ExpressionFilter(Filter):
        __doc__ = f"{given.expression}: {given.reason}"

        def __init__(self, context: Context) -> None:
            super().__init__(context)
            self.deadline = time.monotonic() + SECONDS

        def rejection(self, host: HostState) -> Rejection | None:
            try:
                passes = evaluate(host=host.facts, request=self.context.request)
            except Exception as error:
                raise failure(f"{type(error).__name__}: {error}", host) from error
            if not isinstance(passes, bool):
                raise failure(f"expected true or false, got {passes!r:.80}", host)
            if time.monotonic() > self.deadline:
                raise failure(f"took longer than {SECONDS:g} seconds over the hosts up to here", host)
            return None if passes else self.reject("custom", given.reason)

    ExpressionFilter.__name__ = given.name
    return ExpressionFilter
