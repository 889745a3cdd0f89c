# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Aggregates for certain projects only."""

from __future__ import annotations

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.filters.base import Filter, Rejection
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.host_state import HostState

_PREFIX = "filter_tenant_id"


class AggregateMultiTenancyIsolation(Filter):
    """Where the host's aggregates have metadata keys that begin with `filter_tenant_id`, one of them lists the project."""

    def rejection(self, host: HostState) -> Rejection | None:
        keys = {key for item in host.metadata for key in item if key.startswith(_PREFIX)}
        if not keys:
            return None
        tenants, project = set().union(*map(host.metadata_values, keys)), self.context.request.project_id
        if project in tenants:
            return None
        have = ", ".join(sorted(tenants))
        return self.reject("tenant_isolation", f"its aggregates are for the projects {have}, not for {project or 'a guest without project'}", project, have)
