# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the flavor's extra specs ask of a host's aggregates."""

from __future__ import annotations

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.context import Context
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.extra_specs_ops import predicate
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.filters.base import Rejection, ValueFilter
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.fleet_state import FleetState
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.host_state import HostState, words

_SCOPE = "aggregate_instance_extra_specs"


class AggregateInstanceExtraSpecsFilter(ValueFilter):
    """Every key without scope or in the scope of this filter is in the metadata of the host's aggregates, with a value that matches."""

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.requirements = []
        for key, requirement in context.request.flavor.extra_specs.items():
            scope, colon, name = key.partition(":")
            if not colon or scope == _SCOPE:
                self.requirements.append((name or scope, requirement, predicate(f"request.flavor.extra_specs.{key}", requirement)))

    def applies(self) -> bool:
        return bool(self.requirements)

    def values(self, host: HostState) -> list[tuple[str, ...]]:
        return [host.metadata_texts(name) for name, _requirement, _matches in self.requirements]

    def columns(self, fleet: FleetState) -> list[list[tuple[str, ...]]]:
        return [fleet.metadata_texts(name) for name, _requirement, _matches in self.requirements]

    def judge(self, *given: tuple[str, ...]) -> Rejection | None:
        failed = []
        for (name, requirement, matches), texts in zip(self.requirements, given):
            values = words(texts)
            if not any(map(matches, values)):
                have = ", ".join(sorted(values)) or None
                failed.append((f"its aggregates give {name} {f'as {have!r}' if have else 'no value'}, which must be '{requirement}'", requirement, have))
        if not failed:
            return None
        return self.reject("aggregate_extra_specs", "; ".join(reason for reason, _need, _have in failed), *failed[0][1:])
