# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""vCPUs, with the overcommit of the host's aggregate."""

from __future__ import annotations

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.filters.core import CoreFilter


class AggregateCoreFilter(CoreFilter):
    """As CoreFilter; the lowest `cpu_allocation_ratio` of the host's aggregates wins over the host's own."""

    aggregate_ratio = "cpu_allocation_ratio"
