# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Metrics that a host reports."""

from __future__ import annotations

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.host_state import HostState
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.weighers.base import Weigher
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.validation import ValidationError, mapping, number


class MetricsWeigher(Weigher):
    """Sum of `metric x ratio` over `metrics_weight_setting`; a metric that is missing is an error or makes the host `metrics_weight_of_unavailable`."""

    multiplier_key = "metrics_weight_multiplier"

    def applies(self) -> bool:
        return bool(self.context.options.metrics_weight_setting)

    def raw(self, host: HostState) -> float:
        options, path = self.context.options, f"{host.path}.metrics"
        have, total = mapping(path, host.facts.get("metrics")), 0.0
        for name, ratio in options.metrics_weight_setting.items():
            if name in have:
                total += number(f"{path}.{name}", have[name]) * ratio
            elif options.metrics_required:
                raise ValidationError(f"{path}.{name}", None, "a number (metrics_required is true; MetricsFilter keeps hosts without it away)")
            elif ratio * self.multiplier(host):
                return options.metrics_weight_of_unavailable
        return total
