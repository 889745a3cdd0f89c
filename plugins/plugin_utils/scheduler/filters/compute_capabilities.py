# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the flavor's extra specs ask of a host."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.context import Context
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.extra_specs_ops import predicate
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.filters.base import Rejection, ValueFilter
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.fleet_state import FleetState
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.host_state import NOVA_NAMES, HostState


class ComputeCapabilitiesFilter(ValueFilter):
    """`capabilities:a:b` must be there and match; a key without scope counts only on hosts that know it, other scopes belong to others.

    `hw:maxphysaddr_bits` is short for `capabilities:cpu_info:maxphysaddr:bits`, at least. A name is looked up in the host state, then in its
    `capabilities`; text that holds a JSON object can be stepped into.
    """

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.requirements = []
        for given, text in context.request.flavor.extra_specs.items():
            key, requirement = ("capabilities:cpu_info:maxphysaddr:bits", f">= {text}") if given == "hw:maxphysaddr_bits" else (given, text)
            scope, *names = key.split(":")
            if not names or scope == "capabilities":
                self.requirements.append((key, names or [scope], requirement, predicate(f"request.flavor.extra_specs.{given}", requirement)))

    def applies(self) -> bool:
        return bool(self.requirements)

    def values(self, host: HostState) -> list[Any]:
        return [_lookup(host, names) for _key, names, _requirement, _matches in self.requirements]

    def columns(self, fleet: FleetState) -> list[list[Any]]:
        return [_column(fleet, names) for _key, names, _requirement, _matches in self.requirements]

    def judge(self, *values: Any) -> Rejection | None:
        failed = []
        for (key, _names, requirement, matches), found in zip(self.requirements, values):
            if found is None:
                if key.startswith("capabilities:"):
                    failed.append((f"does not report {key}, which must be '{requirement}'", requirement, None))
            elif not matches(found):
                failed.append((f"{key} is '{found}', which must be '{requirement}'", requirement, str(found)))
        if not failed:
            return None
        return self.reject("capability", "; ".join(reason for reason, _need, _have in failed), *failed[0][1:])


def _column(fleet: FleetState, names: Sequence[str]) -> list[Any]:
    if names[0] in NOVA_NAMES:
        return [_lookup(host, names) for host in fleet.values()]
    plain = zip(fleet.column(names[0]), fleet.column("capabilities"))
    first = names[0]
    # Nearly every value is a plain dict: asking it here saves a call for each host.
    found = [(held.get(first) if isinstance(held, dict) else _step(held, first)) if value is None else value for value, held in plain]
    for name in names[1:]:
        found = [value.get(name) if isinstance(value, dict) else _step(value, name) for value in found]
    return found


def _lookup(host: HostState, names: Sequence[str]) -> Any:
    found: Any = host.attribute(names[0])
    if found is None:
        found = _step(host.facts.get("capabilities"), names[0])
    for name in names[1:]:
        found = _step(found, name)
    return found


def _step(found: Any, name: str) -> Any:
    if isinstance(found, dict):
        return found.get(name)
    if isinstance(found, str):
        found = _parsed(found)
    return found.get(name) if isinstance(found, Mapping) else None


@lru_cache(maxsize=1024)
def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None
