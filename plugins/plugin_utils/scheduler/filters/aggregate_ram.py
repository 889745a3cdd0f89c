# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Memory, with the overcommit of the host's aggregate."""

from __future__ import annotations

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.filters.ram import RamFilter


class AggregateRamFilter(RamFilter):
    """As RamFilter; the lowest `ram_allocation_ratio` of the host's aggregates wins over the host's own."""

    aggregate_ratio = "ram_allocation_ratio"
