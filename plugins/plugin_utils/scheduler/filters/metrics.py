# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Metrics that the weigher is to use."""

from __future__ import annotations

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.filters.base import Filter, Rejection
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.host_state import HostState


class MetricsFilter(Filter):
    """The host reports every metric that `metrics_weight_setting` names."""

    def applies(self) -> bool:
        return bool(self.context.options.metrics_weight_setting)

    def rejection(self, host: HostState) -> Rejection | None:
        have = host.mapping("metrics") or {}
        missing = [name for name in self.context.options.metrics_weight_setting if name not in have]
        return self.reject("metrics", f"does not report {', '.join(missing)}", ", ".join(missing)) if missing else None
